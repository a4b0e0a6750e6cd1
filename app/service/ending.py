"""Ending: the one way in which a task ends.

The result file is stored already, under a key that holds the fencing token. Then: `beat` once more (is it still mine?),
`settle`, and the caller acknowledges the message. The row in SQL, which will come between the two, has its place here.
"""

from uuid import UUID

from app.domain.errors import LeaseLost
from app.domain.task import Task
from app.store.tasks import End, TaskStore


class Endings:
    """Ends tasks, on behalf of whoever holds their token."""

    def __init__(self, *, tasks: TaskStore) -> None:
        self._tasks = tasks

    async def end(self, task_id: UUID, token: int, end: End) -> Task:
        """End the task; afterwards its message may be acknowledged.

        Raises:
            LeaseLost: Another worker has it, or has ended it: nothing was changed.
            StoreUnavailable: No answer; may be repeated.
        """
        if await self._tasks.beat(task_id, token, progress=0, message=None) == "MISSING":
            raise LeaseLost("Redis has forgotten the task.")
        return await self._tasks.settle(task_id, token, end)
