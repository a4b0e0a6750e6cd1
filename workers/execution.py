"""Execution: one delivery, from claim to acknowledgement.

The open delivery guards every step: it is acknowledged last, once the task has ended, or once a confirmed copy has
taken its place. A process that is killed at any step leaves the message with the broker, which delivers it again.
"""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from app.broker.delivery import Delivery
from app.broker.publisher import Letter
from app.domain.action import Action, ActionCatalogue
from app.domain.envelope import Envelope
from app.domain.errors import (
    BrokerUnavailable,
    LeaseLost,
    Malformed,
    PublishUnconfirmed,
    QueueFull,
    StoreUnavailable,
    Undecryptable,
)
from app.domain.lifecycle import TaskStatus
from app.domain.problem import Problem, problem_type
from app.observability.logging import bind, get_log
from app.results.store import ResultStore
from app.security.sealing import Sealer
from app.service.ending import Endings
from app.settings import Dataset
from app.store.tasks import Claimed, Drop, End, Exhausted, Park, TaskStore
from workers.executors.inline import run_inline
from workers.executors.process import ProcessExecutor
from workers.job import JobContext
from workers.lease import Lease
from workers.outcome import AttemptFailed, Result
from workers.registry import Handler, Registry
from workers.reporting import LeaseReporter

RETRY_SECONDS: Final = 1.0
UNKNOWN_ACTION_WAIT: Final = timedelta(seconds=15)
"""After how long a task whose action this worker does not know is offered again: another one may know it."""

Answer = TypeVar("Answer")

log = get_log("worker")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every execution of an engine shares."""

    worker: str
    tasks: TaskStore
    endings: Endings
    results: ResultStore
    sealer: Sealer
    catalogue: ActionCatalogue
    registry: Registry
    processes: ProcessExecutor
    datasets: dict[int, Dataset]
    stopping_hard: asyncio.Event
    """Set when running jobs must be given back."""


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
            await self._until_published(lambda: self._delivery.bury(reason))
            return
        handler = self._desk.registry.get(envelope.action)
        if handler is None:
            log.error("no handler for this action; leaving it to another worker", action=envelope.action)
            await self._until_published(lambda: self._delivery.leave_copy(letter, UNKNOWN_ACTION_WAIT))
            await self._delivery.acknowledge()
            return
        claim = await self._until_stored(
            lambda: self._desk.tasks.claim(envelope, letter.sealed, worker=self._desk.worker)
        )
        match claim:
            case Drop(reason):
                log.info("dropped a message", reason=reason)
                await self._delivery.acknowledge()
            case Park(wait, copy_id):
                await self._park(envelope, letter, wait, copy_id)
            case Exhausted(attempt, token):
                lost = f"The workers that ran it were lost, {envelope.max_attempts} times without getting further."
                await self._end_lost(envelope, token, attempt, lost)
            case Claimed():
                await _Attempt(self._desk, self._delivery, envelope, handler, claim).run()

    def _opened(self, letter: Letter) -> Envelope:
        plain = self._desk.sealer.open(letter.sealed, task_id=letter.task_id, action=letter.action)
        try:
            envelope = Envelope.model_validate_json(plain)
        except ValidationError:
            raise Malformed("The message is sealed, but no envelope.") from None  # the cause would show the payload
        if envelope.message_id != letter.message_id:
            raise Malformed("The message's id is not that of its envelope.")
        return envelope

    async def _park(self, envelope: Envelope, letter: Letter, wait: timedelta, copy_id: str) -> None:
        """Leave a copy for later in the message's place; it is the task's guard before the message goes."""
        copy = envelope.copy_with(copy_id)
        sealed = self._desk.sealer.seal(
            copy.model_dump_json().encode(), task_id=envelope.task_id, action=envelope.action
        )
        later = Letter(letter.task_id, copy_id, letter.action, letter.queue, sealed, letter.request_id)
        await self._until_published(lambda: self._delivery.leave_copy(later, wait))
        await self._until_stored(lambda: self._desk.tasks.promote(envelope.task_id, copy_id))
        await self._delivery.acknowledge()
        log.info("parked: another worker holds the task", seconds=round(wait.total_seconds(), 1))

    async def _end_lost(self, envelope: Envelope, token: int, attempt: int, detail: str) -> None:
        problem = Problem(
            type=problem_type("worker-lost"), title="Worker lost", detail=detail, request_id=envelope.request_id
        )
        try:
            await self._until_stored(
                lambda: self._desk.endings.end(envelope.task_id, token, End(TaskStatus.FAILED, error=problem))
            )
        except LeaseLost:
            await self._delivery.give_back()
            return
        log.warning("failed: its workers were lost", attempt=attempt)
        await self._delivery.acknowledge()

    async def _until_stored(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until Redis answers, as long as the delivery is ours."""
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                if self._delivery.is_lost:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _until_published(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Publish until the broker confirms, as long as the delivery is ours; a copy too many is dropped later."""
        while True:
            try:
                return await publish()
            except (BrokerUnavailable, QueueFull, PublishUnconfirmed):
                if self._delivery.is_lost:
                    raise
                await asyncio.sleep(RETRY_SECONDS)


class _Attempt:
    """A claimed task: the lease is kept while the handler runs, and every end has its line in `run`."""

    def __init__(self, desk: Desk, delivery: Delivery, envelope: Envelope, handler: Handler, claimed: Claimed) -> None:
        self._desk = desk
        self._delivery = delivery
        self._envelope = envelope
        self._handler = handler
        self._claimed = claimed
        self._lease = Lease(desk.tasks, envelope.task_id, claimed.token, progress=claimed.progress)

    async def run(self) -> None:
        log.info(
            "started", action=self._envelope.action, attempt=self._claimed.attempt, progress=self._claimed.progress
        )
        beats = asyncio.create_task(self._lease.keep(), name="lease")
        try:
            end = await self._first_end()
            if end is not None:
                await self._settle(end)
                await self._delivery.acknowledge()
                log.info("ended", status=end.status, attempt=self._claimed.attempt)
                return
            await self._desk.tasks.release(self._envelope.task_id, self._lease.token)
            log.info("given back: the worker is stopping")
        except LeaseLost:
            log.warning("stopped: the lease is lost")
        except StoreUnavailable:
            log.warning("given back: Redis is away")
        finally:
            beats.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beats
        await self._delivery.give_back()

    async def _first_end(self) -> End | None:
        """Run the handler until it ends, the lease is lost, or the engine stops (None).

        Raises:
            LeaseLost: Another worker has the task; the handler has been stopped.
        """
        with _workspace() as workspace:
            work = asyncio.create_task(self._work(workspace), name="handler")
            lost = asyncio.create_task(self._lease.lost.wait(), name="lease lost")
            stopping = asyncio.create_task(self._desk.stopping_hard.wait(), name="stopping")
            try:
                await asyncio.wait([work, lost, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped = not work.done()  # what a handler raises when it is stopped is not its end
                for task in (work, lost, stopping):
                    task.cancel()
                await asyncio.gather(work, lost, stopping, return_exceptions=True)
            if stopped:
                if self._lease.lost.is_set():
                    raise LeaseLost
                return None
            return work.result()

    async def _work(self, workspace: Path) -> End:
        """Run the handler to its end; a failed attempt is an end, too."""
        try:
            result = await self._result(workspace)
        except AttemptFailed as error:
            log.warning("the handler failed", where=error.where)
            return End(TaskStatus.FAILED, error=_problem(error, self._envelope))
        return End(TaskStatus.COMPLETED, result=result.file)

    async def _result(self, workspace: Path) -> Result:
        desk, envelope = self._desk, self._envelope
        params = self._params()
        reporter = LeaseReporter(self._lease, desk.results, desk.sealer, envelope)
        context = JobContext(
            task_id=envelope.task_id,
            attempt=self._claimed.attempt,
            token=self._lease.token,
            checkpoint=reporter.open_checkpoint(self._claimed.checkpoint),
            datasets=desk.datasets,
            workspace=workspace,
        )
        if self._handler.blocking:
            return await desk.processes.run(context, params, reporter)
        return await run_inline(self._handler, context, params, reporter)

    def _params(self) -> Action:
        """Read the order again, strictly: the configuration may have changed since it was accepted."""
        order: dict[str, Any] = {"action": self._envelope.action, **self._envelope.params}
        try:
            return self._desk.catalogue.adapter.validate_json(json.dumps(order))
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, one["loc"][1:])) for one in error.errors(include_input=False))
            raise AttemptFailed(f"This worker's configuration does not take the order: {fields}.") from None

    async def _settle(self, end: End) -> None:
        """End the task, waiting while Redis is away, for as long as the lease may be ours."""
        while True:
            try:
                await self._desk.endings.end(self._envelope.task_id, self._lease.token, end)
            except StoreUnavailable:
                if self._lease.lost.is_set():
                    raise LeaseLost from None
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


def _problem(error: AttemptFailed, envelope: Envelope) -> Problem:
    return Problem(
        type=problem_type(error.slug), title="Handler error", detail=error.detail, request_id=envelope.request_id
    )


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="longhaul-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
