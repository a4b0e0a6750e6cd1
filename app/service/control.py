"""Control: cancel, retry, forget."""

from typing import assert_never
from uuid import UUID, uuid4

from app.archive.archive import Archive, EndedTask, Forgotten
from app.domain.envelope import Envelope
from app.domain.errors import ArchiveUnavailable, Conflict, Gone, NotFound, Undecryptable
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds
from app.domain.task import Task
from app.observability.crash_points import crash_point
from app.observability.logging import bind, get_log
from app.results.store import ResultStore
from app.security.principal import Principal, Scope, authorize
from app.security.sealing import Sealer
from app.service.ending import Endings, task_problem
from app.service.publication import Publications, now_ms, too_young
from app.service.status import Statuses
from app.store.keys import owner_id
from app.store.limits import OwnerLimits
from app.store.listing import OwnerLists
from app.store.records import pending_task
from app.store.replies import Created, Deleted, Exists, Waiting, Young
from app.store.tasks import TaskStore

RETRYABLE = (TaskStatus.FAILED, TaskStatus.CANCELLED)

log = get_log("control")


class Control:
    """Changes tasks on behalf of their owners."""

    def __init__(
        self,
        *,
        statuses: Statuses,
        tasks: TaskStore,
        lists: OwnerLists,
        limits: OwnerLimits,
        archive: Archive,
        endings: Endings,
        publications: Publications,
        results: ResultStore,
        sealer: Sealer,
    ) -> None:
        self._statuses = statuses
        self._tasks = tasks
        self._lists = lists
        self._limits = limits
        self._archive = archive
        self._endings = endings
        self._publications = publications
        self._results = results
        self._sealer = sealer

    async def cancel(self, task_id: UUID, *, principal: Principal) -> Task:
        """Ask a task to stop. A waiting one is CANCELLED when this returns, and never runs.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`.
            Conflict: It is COMPLETED or FAILED.
        """
        authorize(principal, Scope.SUBMIT, task_id=task_id)
        task = await self._statuses.read(task_id, principal=principal, scope=Scope.SUBMIT)
        match await self._tasks.cancel(task_id):
            case Waiting(task=waiting, envelope=envelope, checkpoint=checkpoint):
                crash_point("after_cancel_flag")
                ended = await self._endings.end(
                    waiting,
                    TaskStatus.CANCELLED,
                    envelope=envelope,
                    checkpoint=checkpoint,
                    checkpoint_progress=waiting.progress,
                    error=task_problem("cancelled", "Its owner asked it to stop before it had begun."),
                    order=self._order_of(waiting, envelope),
                )
                if ended is None:
                    raise NotFound
                task = ended
            case Task() as asked:
                task = asked
            case None:
                pass  # Redis does not hold it: what was read comes from the archive
        if task.status in (TaskStatus.COMPLETED, TaskStatus.FAILED):
            raise Conflict(f"The task is {task.status}.")
        log.info("cancel", status=task.status)
        return task

    async def retry(self, task_id: UUID, *, principal: Principal, request_id: str) -> Task:
        """Run a task again that has FAILED or was CANCELLED, from its last checkpoint.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`.
            Conflict: It has not ended, or is COMPLETED, or another retry was first.
            BrokerUnavailable, QueueFull, StoreUnavailable, ArchiveUnavailable: Nothing was changed.
            OutcomeUnknown: It may run.
        """
        authorize(principal, Scope.SUBMIT)
        task = await self._statuses.read(task_id, principal=principal, scope=Scope.SUBMIT)
        if task.status not in RETRYABLE:
            raise Conflict(f"The task is {task.status}; only a FAILED or CANCELLED one can be retried.")
        ended = await self._ended(task_id)
        try:
            return await self.run_again(ended, request_id=request_id)
        except Undecryptable as error:
            raise Conflict("The task's order does not open any more; submit it again.") from error

    async def run_again(self, ended: EndedTask, *, request_id: str | None, by_hand: bool = False) -> Task:
        """Begin the next run of an ended task; raises like `retry`, and Undecryptable if its order does not open."""
        task_id, task = ended.task.id, ended.task
        if ended.envelope is None or task.status not in RETRYABLE:
            raise Conflict(f"The task is {task.status}; only a FAILED or CANCELLED one can be retried.")
        bind(task_id=str(task_id))
        order = self._sealer.open_order(ended.envelope, task_id=task_id, action=task.action)
        envelope = order.succeeded_by(
            uuid4().hex,
            created_at=milliseconds(task.created_at),  # of two racing requests with a key, the other's may have run
            run=task.run + 1,
            not_before=0,
            attempt=task.attempt,
            charged=0,
            checkpoint=self._sealer.open_json(ended.checkpoint, task_id=task_id, action=task.action),
            checkpoint_progress=ended.checkpoint_progress,
            request_id=request_id,
        )
        sealed = self._sealer.seal_order(envelope)
        await self._lists.add(envelope)
        await self._limits.count(task.owner_id, [task_id])  # never refused; should it fail, the leader sees it
        match await self._tasks.rerun(envelope, sealed, ended.checkpoint, task, by_hand=by_hand):
            case Created() as created:
                crash_point("after_rerun")
                await self._require_not_forgotten(envelope)
                again = await self._publications.promise(envelope, sealed, created, first=True)
            case Young(wait):
                raise too_young(wait)
            case Exists():
                raise Conflict("It is being retried already.")
            case Deleted():
                raise Gone("The task was deleted.")
            case other:
                assert_never(other)
        if again is None:  # Redis was emptied in between: the confirmed message brings the run up
            again = pending_task(envelope, seq=now_ms())
        log.info("runs again", run=envelope.run)
        return again

    async def forget(self, task_id: UUID, *, principal: Principal) -> None:
        """Delete an ended task: its row, its order, its result; nothing that carries it starts it any more.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`.
            Conflict: It has not ended.
        """
        authorize(principal, Scope.SUBMIT)
        task = await self._statuses.read(task_id, principal=principal, scope=Scope.SUBMIT)
        owner = task.owner_id
        if not task.status.is_terminal or not await self._tasks.forget(task_id, owner):
            raise Conflict("The task has not ended; cancel it first.")
        crash_point("after_forget_mark")
        if not await self._archive.forget(task_id, owner):
            raise NotFound
        crash_point("after_forget_row")
        await self._tasks.forget(task_id, owner, again=True)  # a row's settle may have come between the two
        await self._lists.remove(owner, [task_id])
        await self._results.remove(task_id)
        log.info("forgotten")

    def _order_of(self, task: Task, envelope: bytes) -> Envelope | None:
        """Open the order of a task that wants webhooks; of others nothing need be known, nor can it be for some."""
        if not task.has_callback:
            return None
        return self._sealer.open_order(envelope, task_id=task.id, action=task.action)

    async def _ended(self, task_id: UUID) -> EndedTask:
        match await self._archive.find(task_id):
            case EndedTask() as ended:
                return ended
            case _:
                raise NotFound

    async def _require_not_forgotten(self, envelope: Envelope) -> None:
        """Ask after `rerun` and before the publish: a DELETE that came between is then seen by one of the two."""
        try:
            known = await self._archive.find(envelope.task_id)
        except ArchiveUnavailable:
            await self._tasks.abort(envelope)
            raise
        if isinstance(known, Forgotten):
            await self._tasks.forget(envelope.task_id, owner_id(envelope.owner), again=True)
            raise Gone("The task was deleted.")
