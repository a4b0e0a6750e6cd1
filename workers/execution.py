"""Execution: one delivery, from the claim on. What the claim finds decides what becomes of the message.

The open delivery guards every step: it is acknowledged last, once the task has ended, or once a confirmed copy has
taken its place. A process that is killed at any step leaves the message with the broker, which delivers it again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from app.archive.archive import EndedTask, Forgotten
from app.broker.delivery import Delivery
from app.broker.publisher import Letter
from app.domain.envelope import Envelope
from app.domain.errors import Malformed, PublishUnconfirmed, Unavailable, Undecryptable
from app.domain.lifecycle import TaskStatus
from app.observability.crash_points import crash_point
from app.observability.logging import bind, get_log
from app.service.ending import task_problem
from app.store.keys import owner_id
from app.store.replies import Ask, Claim, Claimed, Drop, Exhausted, Park, Wait
from workers.attempt import Attempt
from workers.desk import Desk

RETRY_SECONDS: Final = 1.0
UNKNOWN_ACTION_WAIT: Final = timedelta(seconds=15)
"""After how long a task whose action this worker does not know is offered again: another one may know it."""

Answer = TypeVar("Answer")

log = get_log("worker")


class Execution:
    """One delivery."""

    def __init__(self, desk: Desk, delivery: Delivery) -> None:
        self._desk = desk
        self._delivery = delivery

    async def run(self) -> None:
        """Take the delivery to one of its ends: acknowledged, parked, buried, or given back."""
        if self._delivery.is_lost:
            return  # the broker has it again; a claim now would only disturb whoever gets it
        try:
            letter = self._delivery.letter()
            bind(task_id=str(letter.task_id), request_id=letter.request_id)
            envelope = self._opened(letter)
        except (Malformed, Undecryptable) as error:
            log.warning("a message cannot be read", reason=error.detail)
            reason = error.slug
            await self._until_answered(lambda: self._delivery.bury(reason))
            return
        handler = self._desk.registry.get(envelope.action)
        if handler is None:
            log.error("no handler for this action; leaving it to another worker", action=envelope.action)
            await self._wait(letter, UNKNOWN_ACTION_WAIT)
            return
        match await self._claim(envelope, letter):
            case Claimed() as claimed:
                crash_point("after_rebuild" if claimed.rebuilt else "after_claim")
                if not self._is_in_doubt(envelope, claimed) or await self._may_begin(envelope):
                    await Attempt(self._desk, self._delivery, envelope, handler, claimed).run()
            case Exhausted() as exhausted:
                await self._end_lost(envelope, letter, exhausted)
            case Park(wait, copy_id):
                await self._park(envelope, letter, wait, copy_id)
            case Wait(wait):
                await self._wait(letter, wait)
            case Drop(reason):
                log.info("dropped a message", reason=reason)
                await self._delivery.acknowledge()

    def _opened(self, letter: Letter) -> Envelope:
        try:
            envelope = self._desk.sealer.open_order(letter.sealed, task_id=letter.task_id, action=letter.action)
        except ValidationError:
            raise Malformed("The message is sealed, but no envelope.") from None  # the cause would show the payload
        if envelope.message_id != letter.message_id:
            raise Malformed("The message's id is not that of its envelope.")
        return envelope

    async def _claim(self, envelope: Envelope, letter: Letter) -> Claim:
        """Claim, and ask the archive in between where the claim says so."""
        desk, copy_id = self._desk, uuid4().hex
        checkpoint = desk.sealer.seal_json(envelope.checkpoint, task_id=envelope.task_id, action=envelope.action)
        asked: Ask | None = None
        while True:
            claim = await self._until_answered(
                partial(
                    desk.tasks.claim,
                    envelope,
                    letter.sealed,
                    checkpoint=checkpoint,
                    worker=desk.worker,
                    copy_id=copy_id,
                    asked=asked,
                )
            )
            if not isinstance(claim, Ask):
                return claim
            if claim.what == "MISSING":
                await self._until_answered(lambda: desk.lists.add(envelope))
            if stands := await self._against(envelope):
                return Drop(stands)
            asked = claim

    async def _against(self, envelope: Envelope) -> str:
        """Return why the archive is against starting this message, and show what it knows; nothing if it is not."""
        desk = self._desk
        match await self._until_answered(
            lambda: desk.archive.against(envelope.task_id, envelope.run, envelope.message_id)
        ):
            case EndedTask(task=task):
                await self._until_answered(lambda: desk.tasks.settle(task))
                return "it has ended"
            case Forgotten():
                return "it was deleted"
            case None:
                return ""
            case _:
                return "refused to its caller"

    @staticmethod
    def _is_in_doubt(envelope: Envelope, claimed: Claimed) -> bool:
        """Whether an end may have been written that the claim did not see: of a task that may have been made twice."""
        return claimed.rebuilt or envelope.fingerprint is not None or envelope.run > 1

    async def _may_begin(self, envelope: Envelope) -> bool:
        """Ask the archive before the handler starts: an end may have been written since the task was made."""
        stands = await self._against(envelope)
        if not stands:
            return True
        if stands == "it was deleted":
            owner = owner_id(envelope.owner)
            await self._until_answered(lambda: self._desk.tasks.forget(envelope.task_id, owner, again=True))
        log.info("dropped a message", reason=stands)
        await self._delivery.acknowledge()
        return False

    async def _park(self, envelope: Envelope, letter: Letter, wait: timedelta, copy_id: str) -> None:
        """Leave a copy for later in the message's place; it is the task's guard before the message goes."""
        copy = envelope.succeeded_by(copy_id)
        later = replace(letter, message_id=copy_id, sealed=self._desk.sealer.seal_order(copy))
        await self._until_answered(lambda: self._desk.publisher.publish_later(later, wait))
        crash_point("after_park")
        replaced = await self._until_answered(
            partial(self._desk.tasks.promote, envelope.task_id, envelope.run, copy_id, replaces=envelope.message_id)
        )
        if not replaced:
            await self._delivery.give_back()  # it guards the task still
            return
        await self._delivery.acknowledge()
        log.info("parked", seconds=round(wait.total_seconds(), 1))

    async def _wait(self, letter: Letter, wait: timedelta) -> None:
        """Leave the same message for later: its id stays the one that the task's hash may name."""
        await self._until_answered(lambda: self._desk.publisher.publish_later(letter, wait))
        await self._delivery.acknowledge()
        log.info("parked until it can be decided", seconds=round(wait.total_seconds(), 1))

    async def _end_lost(self, envelope: Envelope, letter: Letter, exhausted: Exhausted) -> None:
        """End a task whose workers were lost too often."""
        desk, detail = self._desk, f"Its workers were lost {envelope.max_attempts} times without getting further."
        await self._until_answered(lambda: desk.publisher.bury(letter, "worker-lost"))
        await self._until_answered(
            lambda: desk.endings.end(
                exhausted.task,
                TaskStatus.FAILED,
                envelope=letter.sealed,
                checkpoint=exhausted.checkpoint,
                checkpoint_progress=exhausted.checkpoint_progress,
                error=task_problem("worker-lost", detail, request_id=envelope.request_id),
                order=envelope,
            )
        )
        await self._delivery.acknowledge()
        log.warning("failed: its workers were lost")

    async def _until_answered(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until the server answers, as long as the delivery is ours. A copy too many is dropped at its claim."""
        while True:
            try:
                return await ask()
            except (Unavailable, PublishUnconfirmed):
                if self._delivery.is_lost:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
