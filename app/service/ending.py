"""Ending: the one way in which a task ends, for worker, cancel, housekeeping and admin.

The result file is stored already, under a key that holds the fencing token, and the worker has asked once more whether
the task is still its own. Then: the row in SQL, where the first one of a run wins, and only then Redis, which shows
what the winning row says. The caller acknowledges the message afterwards. A process that is killed in between repeats
this, or finds what was done.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from app.archive.archive import Archive, EndedTask
from app.domain.envelope import Envelope
from app.domain.lifecycle import TaskStatus
from app.domain.problem import Problem, problem_type
from app.domain.task import ResultFile, Task
from app.observability.crash_points import crash_point
from app.service.announcing import Announcements
from app.store.limits import OwnerLimits
from app.store.tasks import TaskStore

SEQ_ROOM: Final = 16
"""How far above the last known one the end's seq lies: room for changes (a cancel) between that look and the row."""


class Endings:
    """Ends tasks, on behalf of whoever may."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        archive: Archive,
        limits: OwnerLimits,
        announcements: Announcements,
        result_ttl: timedelta,
    ) -> None:
        self._tasks = tasks
        self._announcements = announcements
        self._archive = archive
        self._limits = limits
        self._result_ttl = result_ttl

    async def end(
        self,
        task: Task,
        status: TaskStatus,
        *,
        envelope: bytes | None,
        checkpoint: bytes | None = None,
        checkpoint_progress: int = 0,
        result: ResultFile | None = None,
        error: Problem | None = None,
        order: Envelope | None = None,
    ) -> Task | None:
        """Write the run's row, and show the winning one.

        Args:
            task: As it was seen last.
            status: How it ends.
            envelope: Its order, sealed: kept with the row of a FAILED or CANCELLED one, so that it can run again; None
                if it is COMPLETED.
            checkpoint: From where it would go on, sealed.
            checkpoint_progress: How far that is, in percent.
            result: The file it made.
            error: Why it failed.
            order: The opened envelope: it says where the end is told. None: nowhere.

        Returns:
            The winning row's task: this end, or an earlier one. None if the task was deleted, and has no end.

        Raises:
            ArchiveUnavailable: There may be a row or not; may be repeated.
            StoreUnavailable: There is a row; may be repeated.
        """
        now = datetime.now(UTC)
        ended = task._replace(
            status=status,
            seq=task.seq + SEQ_ROOM,
            progress=100 if status is TaskStatus.COMPLETED else task.progress,
            finished_at=now,
            expires_at=now + self._result_ttl if result else None,
            result=result,
            error=error,
            cancel_requested=False,
            next_attempt_at=None,
        )
        again = status is not TaskStatus.COMPLETED
        webhook = self._announcements.of_end(ended, order)
        row = await self._archive.insert(
            EndedTask(
                task=ended,
                envelope=envelope if again else None,
                checkpoint=checkpoint if again else None,
                checkpoint_progress=checkpoint_progress if again else 0,
                webhook=webhook,
            )
        )
        crash_point("after_row")
        if row is None:
            return None
        # Before its end is seen: whoever sees it may submit the next one.
        self._limits.release_with_next(task.owner_id, task.id)
        settled = await self._tasks.settle(row.task) or row.task
        if webhook is not None:
            await self._announcements.wake(webhook.id)
        return settled


def task_problem(slug: str, detail: str, *, request_id: str | None = None) -> Problem:
    """Return a task's `error`: a problem without `status` and `instance`."""
    title = slug.replace("-", " ").capitalize()
    return Problem(type=problem_type(slug), title=title, detail=detail, request_id=request_id)
