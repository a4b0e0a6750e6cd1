"""The engine's side of a job: what a handler reports goes to its lease, what it saves to the result store."""

import json
import mimetypes
from pathlib import Path
from typing import Any

from app.domain.envelope import Envelope
from app.results.store import ResultStore
from app.security.sealing import Sealer
from workers.job import checkpoint_bytes
from workers.lease import Lease
from workers.outcome import Result


class LeaseReporter:
    """Serves one attempt, whether its handler runs on the loop or in a child process."""

    def __init__(self, lease: Lease, results: ResultStore, sealer: Sealer, envelope: Envelope) -> None:
        self._lease = lease
        self._results = results
        self._sealer = sealer
        self._envelope = envelope

    def open_checkpoint(self, sealed: bytes | None) -> Any:
        """Return the checkpoint that the claim brought, or None."""
        if sealed is None:
            return None
        plain = self._sealer.open(sealed, task_id=self._envelope.task_id, action=self._envelope.action)
        return json.loads(plain)

    def progress(self, percent: int, message: str | None) -> None:
        """See `Job.progress`."""
        self._lease.report(percent, message)

    async def commit(self, checkpoint: Any) -> None:
        """See `Job.commit`."""
        plain = checkpoint_bytes(checkpoint)
        await self._lease.commit(self._sealer.seal(plain, task_id=self._envelope.task_id, action=self._envelope.action))

    async def save(self, path: Path, content_type: str | None, filename: str | None) -> Result:
        """See `Job.save`."""
        name = filename or path.name
        kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        file = await self._results.put(
            self._envelope.task_id, self._lease.token, path, content_type=kind, filename=name
        )
        return Result(file)
