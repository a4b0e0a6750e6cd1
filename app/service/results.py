"""Results: who may read which file."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from app.domain.errors import Conflict, Gone, NotFinished, NotFound
from app.domain.lifecycle import TaskStatus
from app.domain.task import ResultFile
from app.results.store import ResultStore
from app.security.links import ResultLinks
from app.security.principal import Principal
from app.service.status import Statuses


@dataclass(frozen=True, slots=True)
class ResultLink:
    """The query of a signed link, as it was sent."""

    expires: str
    signature: str


class Results:
    """Hands out result files on behalf of their owners."""

    def __init__(self, *, statuses: Statuses, results: ResultStore, links: ResultLinks) -> None:
        self._links = links
        self._statuses = statuses
        self._results = results

    async def describe(self, task_id: UUID, *, reader: Principal | ResultLink) -> ResultFile:
        """Return the task's result file, which is there at this moment.

        Args:
            task_id: The task.
            reader: The task's owner, or whoever has a link to its result.

        Raises:
            Unauthorized: The link is none of ours.
            NotFound: No such task of the caller's, or it has no file.
            NotFinished: It has not ended.
            Conflict: It ended otherwise than COMPLETED.
            Gone: The file was removed, or the link's time is over.
        """
        if isinstance(reader, ResultLink):
            self._links.require_good(task_id, reader.expires, reader.signature)
            task = await self._statuses.find(task_id)
            if task is None:
                raise NotFound
        else:
            task = await self._statuses.read(task_id, principal=reader)
        if not task.status.is_terminal:
            raise NotFinished
        if task.status is not TaskStatus.COMPLETED:
            raise Conflict(f"The task is {task.status}; it has no result.")
        if task.result is None:
            raise NotFound("The task has no result file.")
        expired = task.expires_at is not None and task.expires_at <= datetime.now(UTC)
        if expired or not await self._results.exists(task.result):
            raise Gone("The result has been removed.")
        return task.result

    async def read(self, file: ResultFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the file's bytes from `start` up to, not including, `end`."""
        return await self._results.read(file, start, end)
