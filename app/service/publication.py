"""Publication: from `created` to promised, or taken back. Submission and retry both go this way.

What goes wrong on it leaves either nothing, or a task that runs: never one that was refused and runs, never one that
was promised and does not. Where that cannot be learnt, the answer is OutcomeUnknown.
"""

import time
from datetime import timedelta
from math import ceil
from typing import Literal

from app.archive.archive import Archive
from app.broker.publisher import Letter, Publisher
from app.domain.envelope import Envelope
from app.domain.errors import (
    BrokerUnavailable,
    Gone,
    OutcomeUnknown,
    PublishUnconfirmed,
    QueueFull,
    StoreUnavailable,
    Unavailable,
)
from app.domain.task import Task
from app.observability.crash_points import crash_point
from app.observability.logging import get_log
from app.store.records import pending_task
from app.store.replies import Created, Deleted
from app.store.tasks import TaskStore

log = get_log("submission")


class Publications:
    """Publishes the messages of tasks that were created, and decides what becomes of them."""

    def __init__(self, *, tasks: TaskStore, publisher: Publisher, archive: Archive) -> None:
        self._tasks = tasks
        self._publisher = publisher
        self._archive = archive

    async def promise(self, envelope: Envelope, sealed: bytes, created: Created, *, first: bool) -> Task | None:
        """Publish a created task's message, await its confirm, and make the task visible.

        Args:
            envelope: The order.
            sealed: The same, sealed.
            created: What `create` or `rerun` answered.
            first: Whether this request has published nothing before; if it has, it can refuse nothing any more.

        Returns:
            The task; None if Redis was emptied meanwhile and the order must be begun anew, since it has a key.

        Raises:
            BrokerUnavailable, QueueFull: The task was taken back.
            Gone: The task was deleted meanwhile.
            OutcomeUnknown: The task may run.
        """
        letter = Letter.of(envelope, sealed)
        crash_point("after_create")
        try:
            await self._send(letter, envelope.not_before)
        except (BrokerUnavailable, QueueFull) as error:
            await self._take_back_unsent(envelope)
            if first:
                raise
            raise OutcomeUnknown from error
        except PublishUnconfirmed as error:
            return await self._take_back_sent(envelope, first=first, error=error)
        crash_point("after_confirm")
        task = await self._queued(envelope, created)
        crash_point("after_queued")
        return task

    async def _send(self, letter: Letter, not_before: int) -> None:
        wait = timedelta(milliseconds=not_before - now_ms())
        if wait > timedelta(0):
            await self._publisher.publish_later(letter, wait)
        else:
            await self._publisher.publish(letter)

    async def _queued(self, envelope: Envelope, created: Created) -> Task | None:
        try:
            task = await self._tasks.queued(envelope, created.epoch)
        except StoreUnavailable as error:
            raise OutcomeUnknown from error
        if isinstance(task, Deleted):
            raise Gone("The task was deleted.")
        if task is None and envelope.fingerprint is None:
            # Redis was emptied in between. The confirmed message alone rebuilds the task; but under a key another
            # request may make it anew meanwhile, so that one is begun again.
            return pending_task(envelope, seq=now_ms())
        return task

    async def _take_back_unsent(self, envelope: Envelope) -> None:
        """Take back an order whose message the broker has certainly not taken."""
        try:
            await self._tasks.abort(envelope)
        except StoreUnavailable:
            log.warning("a refused task was not taken back; it goes by itself")

    async def _take_back_sent(self, envelope: Envelope, *, first: bool, error: PublishUnconfirmed) -> Task:
        """Decide about an order whose message may have arrived."""
        try:
            outcome = await self._aborted(envelope)
        except Unavailable as unavailable:
            raise OutcomeUnknown from unavailable
        if outcome == "ABORTED" and first:
            raise BrokerUnavailable(
                "The message broker did not confirm the task in time; nothing was accepted."
            ) from error
        if isinstance(outcome, Task) and outcome.run >= envelope.run:
            return outcome
        raise OutcomeUnknown from error

    async def _aborted(self, envelope: Envelope) -> Literal["ABORTED"] | Task | None:
        """Take an order back whose message may come; return ABORTED, or the task as it lives, or None: it may run.

        SQL doubts the message first, since Redis may forget what the abort did: whoever meets the message meanwhile
        waits with it, and drops nothing that may turn out to be the task's only one. Only what was taken back becomes
        a refusal, before anybody is told of it. If this process dies, or a server is away, housekeeping lifts the
        doubt.
        """
        message = envelope.task_id, envelope.message_id
        await self._archive.doubt(*message)
        crash_point("after_doubt")
        outcome = await self._tasks.abort(envelope)
        crash_point("after_abort")
        if outcome == "ABORTED":
            refused = await self._archive.refuse(*message)  # not if this took so long that the doubt was lifted
            crash_point("after_refusal")
            return outcome if refused else None
        await self._archive.lift_doubt(*message)
        return await self._tasks.find(envelope.task_id) if isinstance(outcome, Task) else None


def too_young(wait: timedelta) -> StoreUnavailable:
    """Return what to answer while Redis is too young to tell what it has lost; `wait` is for how long."""
    seconds = ceil(wait / timedelta(seconds=1))
    return StoreUnavailable("The state store has just begun anew; nothing was accepted.", retry_after=seconds)


def now_ms() -> int:
    """Return the time in ms since the epoch, on this process's clock."""
    return time.time_ns() // 1_000_000
