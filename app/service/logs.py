"""Logs: read what a task's handler has written."""

from typing import Final
from uuid import UUID

from app.domain.log_line import LogLine
from app.security.principal import Principal
from app.service.status import Statuses
from app.store.task_logs import KEPT_LINES, TaskLogs

MOST_LINES: Final = KEPT_LINES
"""How many lines a log has at most."""


class Logs:
    """Reads logs on behalf of the tasks' owners."""

    def __init__(self, *, statuses: Statuses, logs: TaskLogs) -> None:
        self._statuses = statuses
        self._logs = logs

    async def read(self, task_id: UUID, *, principal: Principal, after: int, limit: int) -> list[LogLine]:
        """Return the lines that are kept, in order; none of a task that only the archive knows any more.

        Args:
            task_id: The task.
            principal: Who asks.
            after: Only lines with a higher number than this.
            limit: How many at most.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`.
            StoreUnavailable: Redis does not answer.
        """
        await self._statuses.read(task_id, principal=principal)
        return await self._logs.read(task_id, after=after, limit=limit)
