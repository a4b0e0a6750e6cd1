"""Attempt: a claimed task, from its claim to its end; the lease is kept while the handler runs.

Every way in which an attempt can end has its line in `run`. The message in hand guards the task all the while; after a
hand-over a confirmed copy does, and no delivery is held.
"""

import asyncio
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex
from typing import Any, Final

from pydantic import ValidationError

from app.broker.delivery import Delivery
from app.cancelling import cancel
from app.domain.action import Action
from app.domain.backoff import retry_delay
from app.domain.envelope import Envelope
from app.domain.errors import ArchiveUnavailable, LeaseLost, StoreUnavailable
from app.domain.lifecycle import TaskStatus
from app.domain.moments import span_milliseconds
from app.observability.crash_points import crash_point
from app.observability.logging import get_log
from app.service.ending import task_problem
from app.service.publication import now_ms
from app.store.replies import Claimed
from workers.desk import Desk
from workers.executors.inline import run_inline
from workers.guarding import Guard
from workers.job import JobContext
from workers.later import Later
from workers.lease import Lease
from workers.outcome import AttemptFailed, Result
from workers.registry import Handler
from workers.reporting import LeaseReporter
from workers.signs import Sign
from workers.task_log import TaskLog
from workers.workspaces import Workspace, workspace

HANDLER_TASK: Final = "handler"
"""How the names of the asyncio tasks begin that run handlers; then comes the action's name."""
RETRY_SECONDS: Final = 1.0
STOPPING_SECONDS: Final = 3.0
"""Of the engine's RELEASE_SECONDS, what giving back may take; stopping the handler takes of them, too."""

STUBBORN_SECONDS: Final = 2.0
"""How long a handler that was cancelled may take to end; the rest of RELEASE_SECONDS."""

log = get_log("worker")


@dataclass(frozen=True, slots=True)
class Finished:
    """The handler has returned."""

    result: Result


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler has raised, its process has died, or its time was up."""

    error: AttemptFailed


class Cancelled:
    """Its owner asked it to stop, and it has."""


class Stopping:
    """The engine stops, and the handler with it."""


Outcome = Finished | Failed | Cancelled | Stopping


class Attempt:
    """One attempt at a task."""

    def __init__(self, desk: Desk, delivery: Delivery, envelope: Envelope, handler: Handler, claimed: Claimed) -> None:
        self._desk = desk
        self._handler = handler
        self._claimed = claimed
        self._lease = Lease(desk.tasks, desk.archive, desk.sealer, envelope, claimed, worker=desk.worker)
        self._log = TaskLog(desk.logs, envelope.task_id, envelope.run, claimed.token)
        self._guard = Guard(desk, delivery, self._lease)
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take the task to its end, or give it back."""
        claimed = self._claimed
        log.info("started", action=self._lease.envelope.action, attempt=claimed.attempt, progress=claimed.progress)
        beats = Later(self._lease.keep, after=self._lease.interval, name="lease")
        self._lease.on_report = beats.begin
        hand_over = Later(self._guard.hand_over, after=self._desk.handover.total_seconds(), name="hand-over")
        try:
            with self._desk.roster.listing(self._lease):
                outcome = Cancelled() if claimed.cancel_requested else await self._outcome()
            await self._log.finish()  # every line comes before the end
            match outcome:
                case Finished(result):
                    await self._end(TaskStatus.COMPLETED, result=result)
                case Cancelled():
                    await self._end(TaskStatus.CANCELLED, error=("cancelled", "Its owner asked it to stop."))
                case Failed(error):
                    await self._failed(error)
                case Stopping():
                    await self._stopped()
        except LeaseLost:
            log.warning("stopped: the lease is lost")
            await self._guard.give_back()
        finally:
            await beats.stop()
            await hand_over.stop()
            await self._log.close()
            if self._telling is not None:
                await cancel(self._telling)

    async def _outcome(self) -> Outcome:
        """Run the handler until it ends, its time is up, the lease is lost, its owner cancels, or the engine stops.

        Raises:
            LeaseLost: Another worker has the task; the handler has been stopped.
        """
        lease, asked_to_stop = self._lease, asyncio.Event()
        timeout = lease.envelope.timeout_seconds
        callback = lease.envelope.callback
        if callback is not None and "started" in callback.events:
            self._telling = asyncio.create_task(self._tell_start(), name="telling of the start")
        with workspace(self._desk.workspaces) as directory:
            name = f"{HANDLER_TASK} {lease.envelope.action}"
            work = asyncio.create_task(self._result(directory, asked_to_stop), name=name)
            work.add_done_callback(_seen)
            try:
                await _until_over(work, (lease.lost, lease.cancel_requested, self._desk.stopping_hard), timeout)
                by_itself = work.done()
                if not by_itself and lease.cancel_requested.is_set():
                    await self._ask_to_stop(work, asked_to_stop)
            finally:
                await _ended(work)
            return self._verdict(work, by_itself=by_itself)

    def _verdict(self, work: asyncio.Task[Result], *, by_itself: bool) -> Outcome:
        """Decide how it has ended; what a handler raises because it was stopped is not a failure of its own."""
        lease = self._lease
        if lease.lost.is_set():
            raise LeaseLost
        if work.done() and not work.cancelled():
            match work.exception():
                case None:
                    return Finished(work.result())
                case AttemptFailed() as error:
                    if by_itself and not lease.cancel_requested.is_set():
                        return Failed(error)
                case BaseException() as error:
                    raise error
        if lease.cancel_requested.is_set():
            return Cancelled()
        if self._desk.stopping_hard.is_set():
            return Stopping()
        limit = lease.envelope.timeout_seconds
        return Failed(AttemptFailed(f"The attempt took longer than {limit} seconds.", kind="timeout", where="timeout"))

    async def _ask_to_stop(self, work: asyncio.Task[Result], asked_to_stop: asyncio.Event) -> None:
        """Ask the handler to stop; if it ignores that, it is stopped after the grace."""
        log.info("asked to stop")
        asked_to_stop.set()
        if not self._handler.blocking:
            work.cancel()
        await asyncio.wait([work], timeout=self._desk.cancel_grace.total_seconds())

    async def _result(self, directory: Workspace, asked_to_stop: asyncio.Event) -> Result:
        desk, envelope = self._desk, self._lease.envelope
        params = self._params()
        reporter = LeaseReporter(self._lease, desk.results, self._log)
        context = JobContext(
            task_id=envelope.task_id,
            attempt=self._claimed.attempt,
            token=self._lease.token,
            checkpoint=envelope.checkpoint,
            datasets=desk.datasets,
            workspace=directory,
        )
        if self._handler.blocking:
            result = await desk.processes.run(context, params, reporter, asked_to_stop)
        else:
            result = await run_inline(self._handler, context, params, reporter)
        crash_point("after_effect")
        return result

    async def _tell_start(self) -> None:
        """Tell the run's receiver that it has begun, beside the work; SQL away: keep trying, as the end will."""
        while not self._lease.lost.is_set():
            try:
                await self._desk.announcements.started(self._claimed.task, self._lease.envelope)
            except ArchiveUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _params(self) -> Action:
        """Read the order again, strictly: the configuration may have changed since it was accepted."""
        envelope = self._lease.envelope
        order: dict[str, Any] = {"action": envelope.action, **envelope.params}
        try:
            return self._desk.catalogue.adapter.validate_json(json.dumps(order))
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, one["loc"][1:])) for one in error.errors(include_input=False))
            raise AttemptFailed(f"This worker's configuration does not take the order: {fields}.") from None

    async def _failed(self, error: AttemptFailed) -> None:
        """Try again later, or end the task and bury its message if it may not be tried again."""
        log.warning("the attempt failed", where=error.where)
        if not error.fatal:
            failures = self._lease.envelope.charged + 1
            wait = error.wait or retry_delay(
                failures, base=self._desk.retry_base, cap=self._desk.retry_cap, random=random.SystemRandom()
            )
            if await self._release(charge=True, wait=wait):
                log.info("to be tried again", seconds=round(wait.total_seconds(), 1))
                return
        await self._guard.bury(error.kind)
        crash_point("after_bury")
        await self._end(TaskStatus.FAILED, error=(error.kind, error.detail))

    async def _stopped(self) -> None:
        """Give the task back; a server that is away now is not waited for: the message in hand comes back by itself."""
        try:
            async with asyncio.timeout(STOPPING_SECONDS):
                await self._release(charge=False, wait=timedelta(0))
        except TimeoutError:
            log.warning("could not be given back in time; its lease will run out")
        else:
            log.info("given back: the worker is stopping")

    async def _release(self, *, charge: bool, wait: timedelta) -> bool:
        """Give the task back, with a copy of its message; False if its attempts are used up."""
        lease, envelope = self._lease, self._lease.envelope
        copy_id = token_hex(16)
        while True:
            await lease.confirm()
            try:
                released = await self._desk.tasks.release(
                    envelope.task_id, envelope.run, lease.token, copy_id=copy_id, charge=charge, wait=wait
                )
                break
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
        if released is None:
            return False
        crash_point("after_release")
        # It alone may have to rebuild the task: it says when the next attempt is due.
        not_before = now_ms() + span_milliseconds(wait) if wait else 0
        copy = lease.envelope.succeeded_by(
            copy_id, attempt=released.attempt, charged=released.charged, not_before=not_before
        )
        await self._guard.replace_by(copy, wait)
        return True

    async def _end(
        self, status: TaskStatus, *, result: Result | None = None, error: tuple[str, str] | None = None
    ) -> None:
        """Write the end, settle it and acknowledge; SQL or Redis away: keep the lease, and keep trying."""
        lease = self._lease
        if self._telling is not None:
            await self._telling  # a start is told, however soon the end comes
        crash_point("after_result")
        while True:
            beat = await lease.confirm()
            envelope = lease.envelope
            task = self._claimed.task._replace(seq=beat.seq, progress=lease.progress, message=lease.message)
            try:
                ended = await self._desk.endings.end(
                    task,
                    status,
                    envelope=None if status is TaskStatus.COMPLETED else lease.sealed(envelope),
                    checkpoint=lease.sealed_checkpoint(),
                    checkpoint_progress=envelope.checkpoint_progress,
                    result=result.file if result else None,
                    error=task_problem(*error, request_id=envelope.request_id) if error else None,
                    order=envelope,
                )
                break
            except (ArchiveUnavailable, StoreUnavailable) as away:
                log.warning("the end cannot be written yet", reason=away.detail)
                await asyncio.sleep(RETRY_SECONDS)
        crash_point("after_settle")
        await self._guard.acknowledge()
        log.info("ended", status=ended.status if ended else "deleted", attempt=self._claimed.attempt)


async def _until_over(work: asyncio.Task[Result], signs: Iterable[Sign], timeout: float | None) -> None:
    """Wait until the work is done, a sign is given, or the time is up."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(timeout, end) if timeout is not None else None
    work.add_done_callback(end)
    for sign in signs:
        sign.tell(end)
    try:
        await over
    finally:
        for sign in signs:
            sign.tell_no_more(end)
        if timer is not None:
            timer.cancel()


def _seen(work: asyncio.Task[Result]) -> None:
    """Look at how the work has ended: asyncio complains of errors that nobody asks for, as when the lease is lost."""
    if not work.cancelled():
        work.exception()


async def _ended(work: asyncio.Task[Result]) -> None:
    """Stop the work, and wait until it has stopped; a handler that swallows its cancellation is left behind."""
    if work.done():
        return
    work.cancel()
    _, stubborn = await asyncio.wait([work], timeout=STUBBORN_SECONDS)
    if stubborn:
        log.error("a handler does not stop when it is cancelled; left behind")
