"""Execution: one delivery, from the claim on. What the claim finds decides what becomes of the message.

The open delivery guards every step: it is acknowledged last, once the task has ended, or once a confirmed copy has
taken its place. A process that is killed at any step leaves the message with the broker, which delivers it again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from secrets import token_hex
from typing import Final, TypeVar

from pydantic import ValidationError

from app.archive.archive import Bar, Doubted, EndedTask, Forgotten, Refused
from app.broker.delivery import Delivery
from app.broker.publisher import Letter
from app.domain.envelope import Envelope
from app.domain.errors import Malformed, PublishUnconfirmed, Unavailable, Undecryptable
from app.domain.lifecycle import TaskStatus
from app.domain.task import Task, id_text
from app.observability.crash_points import crash_point
from app.observability.logging import bind, get_log
from app.service.ending import task_problem
from app.store.replies import Ask, Claim, Claimed, Drop, Exhausted, Park, Wait
from workers.attempt import Attempt
from workers.desk import Desk
from workers.registry import Handler

RETRY_SECONDS: Final = 1.0
UNKNOWN_ACTION_WAIT: Final = timedelta(seconds=15)
"""After how long a task whose action this worker does not know is offered again: another one may know it."""

UNDECIDED_WAIT: Final = timedelta(seconds=5)
"""After how long a message is looked at again of which nobody can say yet whether it may start its task."""
LOST_ORDER: Final = "Its order does not open: it was sealed under an unknown key, for another task, or was changed."
LOST_PLACE: Final = "Its checkpoint does not open: a retry begins from the start."

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
        read = await self._read()
        if read is None:
            return
        letter, envelope = read
        handler = self._desk.registry.get(envelope.action)
        if handler is None:
            log.error("no handler for this action; leaving it to another worker", action=envelope.action)
            await self._wait(letter, UNKNOWN_ACTION_WAIT)
            return
        self._desk.in_hand[self] = envelope.task_id
        try:
            await self._work(envelope, letter, handler)
        finally:
            del self._desk.in_hand[self]

    async def _work(self, envelope: Envelope, letter: Letter, handler: Handler) -> None:
        match await self._claim(envelope, letter):
            case Claimed() as claimed:
                crash_point("after_rebuild" if claimed.rebuilt else "after_claim")
                if not self._may_have_ended(envelope, claimed) or await self._may_begin(envelope):
                    await self._attempt(envelope, letter, handler, claimed)
            case Exhausted() as exhausted:
                await self._end_lost(envelope, letter, exhausted)
            case Park(wait, copy_id):
                await self._park(envelope, letter, wait, copy_id)
            case Wait(wait):
                await self._wait(letter, wait)
            case Drop(reason):
                log.info("dropped a message", reason=reason)
                self._delivery.acknowledge()

    async def _read(self) -> tuple[Letter, Envelope] | None:
        """Read and open the message; None if it cannot be, and has been dealt with."""
        try:
            letter = self._delivery.letter()
        except Malformed as error:
            log.warning("a message cannot be read", reason=error.detail)
            await self._until_answered(lambda: self._delivery.bury(Malformed.slug))
            return None
        bind(task_id=id_text(letter.task_id), request_id=letter.request_id)
        try:
            return letter, self._opened(letter)
        except (Malformed, Undecryptable) as error:
            await self._end_unreadable(letter, error)
            return None

    def _opened(self, letter: Letter) -> Envelope:
        try:
            envelope = self._desk.sealer.open_order(letter.sealed, task_id=letter.task_id, action=letter.action)
        except ValidationError:
            raise Malformed("The message is sealed, but no envelope.") from None  # the cause would show the payload
        if envelope.message_id != letter.message_id:
            raise Malformed("The message's id is not that of its envelope.")
        return envelope

    async def _attempt(self, envelope: Envelope, letter: Letter, handler: Handler, claimed: Claimed) -> None:
        try:
            attempt = Attempt(self._desk, self._delivery, envelope, handler, claimed)
        except Undecryptable as error:
            log.warning("the checkpoint cannot be read", reason=error.detail)
            await self._bury_and_end(letter, claimed.task, envelope=letter.sealed, slug=error.slug, detail=LOST_PLACE)
        else:
            await attempt.run()

    async def _end_unreadable(self, letter: Letter, error: Malformed | Undecryptable) -> None:
        """Bury a message that does not open. If it is the one that guards its task, that is the task's end, too.

        Its worker, or its submission, is given the time to write what they may have to.
        """
        desk = self._desk
        guarded = await self._until_answered(lambda: desk.tasks.guarded_by(letter.task_id, letter.message_id))
        if guarded is not None and guarded.busy > timedelta(0):
            await self._wait(letter, guarded.busy)
            return
        log.warning("a message cannot be read", reason=error.detail)
        if guarded is None:
            await self._until_answered(lambda: self._delivery.bury(error.slug))
            return
        await self._bury_and_end(
            letter,
            guarded.task,
            envelope=guarded.envelope,
            checkpoint=guarded.checkpoint,
            checkpoint_progress=guarded.checkpoint_progress,
            slug=error.slug,
            detail=LOST_ORDER,
        )

    async def _bury_and_end(
        self,
        letter: Letter,
        task: Task,
        *,
        envelope: bytes,
        slug: str,
        detail: str,
        checkpoint: bytes | None = None,
        checkpoint_progress: int = 0,
    ) -> None:
        """End a task as FAILED whose order or checkpoint does not open; the message goes to the dead letters."""
        desk = self._desk
        await self._until_answered(lambda: desk.publisher.bury(letter, slug))
        await self._until_answered(
            lambda: desk.endings.end(
                task,
                TaskStatus.FAILED,
                envelope=envelope,
                checkpoint=checkpoint,
                checkpoint_progress=checkpoint_progress,
                error=task_problem(Undecryptable.slug, detail, request_id=letter.request_id),
            )
        )
        self._delivery.acknowledge()
        log.warning("failed: it does not open")

    async def _claim(self, envelope: Envelope, letter: Letter) -> Claim:
        """Claim, and ask the archive in between where the claim says so."""
        desk, copy_id = self._desk, token_hex(16)
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
            bar = await self._bar(envelope, begun=claim.what in ("EXPIRED", "MARKED"))
            if bar is Bar.DOUBTED or (bar is None and claim.what == "MARKED"):
                return Wait(UNDECIDED_WAIT)
            if bar is not None:
                return Drop(bar)
            asked = claim

    async def _bar(self, envelope: Envelope, *, begun: bool) -> Bar | None:
        """Return why the archive bars this message from starting its task, if it does; and show there what it knows.

        Args:
            envelope: What the message carries.
            begun: The task has begun before, and only its end matters: a copy of a refused message may guard it by now.
        """
        archive, tasks = self._desk.archive, self._desk.tasks
        task_id, run = envelope.task_id, envelope.run
        match await self._until_answered(
            lambda: archive.find(task_id, run=run) if begun else archive.against(task_id, run, envelope.message_id)
        ):
            case EndedTask(task=task):
                await self._until_answered(lambda: tasks.settle(task))
                return Bar.ENDED
            case Forgotten(owner_id=owner):
                await self._until_answered(lambda: tasks.forget(task_id, owner, again=True))
                return Bar.DELETED
            case Refused():
                return Bar.REFUSED
            case Doubted():
                return Bar.DOUBTED
            case None:
                return None

    @staticmethod
    def _may_have_ended(envelope: Envelope, claimed: Claimed) -> bool:
        """Whether an end may have been written that the claim did not see: of a task that may have been made twice."""
        return claimed.rebuilt or envelope.fingerprint is not None or envelope.run > 1

    async def _may_begin(self, envelope: Envelope) -> bool:
        """Ask the archive before the handler starts: an end may have been written since the task was made."""
        bar = await self._bar(envelope, begun=True)
        if bar is None:
            return True
        log.info("dropped a message", reason=bar)
        self._delivery.acknowledge()
        return False

    async def _park(self, envelope: Envelope, letter: Letter, wait: timedelta, copy_id: str) -> None:
        """Leave a copy for later in the message's place; it is the task's guard before the message goes."""
        copy = envelope.succeeded_by(copy_id)
        later = letter._replace(message_id=copy_id, sealed=self._desk.sealer.seal_order(copy))
        await self._until_answered(lambda: self._desk.publisher.publish_later(later, wait))
        crash_point("after_park")
        replaced = await self._until_answered(
            partial(self._desk.tasks.promote, envelope.task_id, envelope.run, copy_id, replaces=envelope.message_id)
        )
        if not replaced:
            await self._delivery.give_back()  # it guards the task still
            return
        self._delivery.acknowledge()
        log.info("parked", seconds=round(wait.total_seconds(), 1))

    async def _wait(self, letter: Letter, wait: timedelta) -> None:
        """Leave the same message for later: its id stays the one that the task's hash may name."""
        await self._until_answered(lambda: self._desk.publisher.publish_later(letter, wait))
        self._delivery.acknowledge()
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
        self._delivery.acknowledge()
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
