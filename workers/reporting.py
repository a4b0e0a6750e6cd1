"""The engine's side of a job: reports go to its lease, what is saved to the result store, lines to the task's log."""

import mimetypes
from pathlib import Path
from typing import Any

from app.domain.log_line import LogRecord
from app.results.store import ResultStore
from workers.job import checkpoint_bytes
from workers.lease import Lease
from workers.outcome import Result
from workers.task_log import TaskLog


class LeaseReporter:
    """Serves one attempt, whether its handler runs on the loop or in a child process."""

    def __init__(self, lease: Lease, results: ResultStore, log: TaskLog) -> None:
        self._lease = lease
        self._results = results
        self._log = log

    def log(self, records: list[LogRecord]) -> None:
        """See `Job.log`."""
        self._log.add(records)

    def progress(self, percent: int, message: str | None) -> None:
        """See `Job.progress`."""
        self._lease.report(percent, message)

    async def commit(self, checkpoint: Any) -> None:
        """See `Job.commit`."""
        checkpoint_bytes(checkpoint)  # refuses what is no checkpoint
        await self._lease.commit(checkpoint)

    async def save(self, path: Path, content_type: str | None, filename: str | None) -> Result:
        """See `Job.save`."""
        name = filename or path.name
        kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        task_id = self._lease.envelope.task_id
        file = await self._results.put(task_id, self._lease.token, path, content_type=kind, filename=name)
        return Result(file)
