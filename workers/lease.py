"""Lease: the right to write to one task, kept by beats until it ends or is lost.

Progress rides on the beats: only the newest report is written, a few times a second at most, never one write a row.
A lost lease is final: whatever this worker still does, it writes nothing more. A *forgotten* one (Redis was emptied) is
not lost: a worker whose last good beat is younger than a lease brings the task back from memory and works on; nobody
else rebuilds it so early.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from app.archive.archive import Archive, EndedTask, Forgotten
from app.domain.envelope import Envelope
from app.domain.errors import LeaseLost, Unavailable
from app.observability.crash_points import crash_point
from app.observability.logging import get_log
from app.security.sealing import Sealer
from app.store.replies import Beat, Claimed, Held
from app.store.tasks import TaskStore
from workers.signs import Sign

REPORT_SECONDS: Final = 0.25
"""Progress is written at most so often."""
BEATS_PER_LEASE: Final = 3
RETRY_SECONDS: Final = 0.5

log = get_log("lease")


class Lease:
    """One attempt's hold on a task."""

    def __init__(
        self, tasks: TaskStore, archive: Archive, sealer: Sealer, envelope: Envelope, claimed: Claimed, *, worker: str
    ) -> None:
        """Take over what `claim` gave.

        Args:
            tasks: Where the task is kept.
            archive: Asked before a forgotten task is brought back.
            sealer: Seals what is stored.
            envelope: The order, of the message in hand.
            claimed: What `claim` gave.
            worker: Who holds it.
        """
        self._tasks = tasks
        self._archive = archive
        self._sealer = sealer
        self._worker = worker
        self._started_at = claimed.task.started_at
        self.token = claimed.token
        self.lost = Sign()
        self.cancel_requested = Sign()
        self.progress = claimed.progress
        self.message: str | None = None
        self.envelope = envelope.model_copy(
            update={
                "attempt": claimed.attempt,
                "charged": claimed.charged,
                "not_before": 0,
                "checkpoint": self.opened(claimed.checkpoint, envelope),
                "checkpoint_progress": claimed.progress,
            }
        )
        """The order as a copy of the message would carry it now: the newest attempt, charges and checkpoint."""
        self._reported = asyncio.Event()
        self.on_report: Callable[[], None] = _nobody
        """Called at each report: whoever keeps the lease need not have begun before the first."""
        self.interval = tasks.lease / timedelta(seconds=BEATS_PER_LEASE)
        """Seconds between two beats."""
        self._restoring = asyncio.Lock()
        self._now = asyncio.get_running_loop().time
        self._good_until = self._now() + tasks.lease.total_seconds()

    def opened(self, checkpoint: bytes | None, envelope: Envelope) -> Any:
        """Open a sealed checkpoint."""
        return self._sealer.open_json(checkpoint, task_id=envelope.task_id, action=envelope.action)

    def sealed(self, envelope: Envelope) -> bytes:
        """Seal an order."""
        return self._sealer.seal_order(envelope)

    def sealed_checkpoint(self) -> bytes | None:
        """Return the newest checkpoint, sealed."""
        envelope = self.envelope
        return self._sealer.seal_json(envelope.checkpoint, task_id=envelope.task_id, action=envelope.action)

    def report(self, percent: int, message: str | None) -> None:
        """Note how far the attempt is; a later beat writes it. Progress does not fall."""
        if percent > self.progress or (message is not None and message != self.message):
            self.progress = max(self.progress, percent)
            self.message = message if message is not None else self.message
            self._reported.set()
            self.on_report()

    async def commit(self, checkpoint: Any) -> None:
        """Store a checkpoint, durably; waits while Redis is away.

        Raises:
            LeaseLost: Nothing was stored.
        """
        envelope, progress = self.envelope, self.progress
        sealed = self._sealer.seal_json(checkpoint, task_id=envelope.task_id, action=envelope.action) or b""
        while True:
            held = await self._ask_commit(sealed, progress)
            if held in ("HELD", "CANCEL"):
                crash_point("after_commit")
                self.envelope = self.envelope.model_copy(
                    update={"checkpoint": checkpoint, "checkpoint_progress": progress}
                )
                return

    async def _ask_commit(self, sealed: bytes, progress: int) -> Held | None:
        envelope, sent = self.envelope, self._now()
        try:
            held = await self._tasks.commit(envelope.task_id, envelope.run, self.token, sealed, progress=progress)
        except Unavailable:
            await self._pause()
            return None
        await self._take(Beat(held), sent)
        return held

    async def confirm(self) -> Beat:
        """Beat once more, before the end is written: it is still this worker's. Waits while Redis is away.

        Raises:
            LeaseLost: It is not.
        """
        while True:
            beat = await self._beat()
            if beat is not None and beat.held in ("HELD", "CANCEL"):
                return beat

    async def keep(self) -> None:
        """Beat at once, three times in a lease, and with every report, until the lease is lost."""
        try:
            while True:
                self._reported.clear()
                if await self._beat() is None:
                    self._reported.set()  # it still has to be written
                await asyncio.sleep(min(REPORT_SECONDS, self.interval))
                await self._until_reported(self.interval)
        except LeaseLost:
            return

    async def _beat(self) -> Beat | None:
        """Beat; None if there was no answer, or the task had to be brought back first."""
        envelope, sent = self.envelope, self._now()
        try:
            beat = await self._tasks.beat(
                envelope.task_id, envelope.run, self.token, progress=self.progress, message=self.message
            )
        except Unavailable:
            await self._pause()
            return None
        await self._take(beat, sent)
        return None if beat.held == "MISSING" else beat

    async def _take(self, beat: Beat, sent: float) -> None:
        """Draw the conclusions of an answer; the lease counts from when the question was sent, not from the answer."""
        match beat.held:
            case "HELD" | "CANCEL":
                self._good_until = sent + self._tasks.lease.total_seconds()
                if beat.held == "CANCEL":
                    self.cancel_requested.set()
            case "MISSING":
                await self._restore()
            case "LOST":
                self._lose("LOST")

    async def _restore(self) -> None:
        """Bring the task back from memory: Redis was emptied under it."""
        async with self._restoring:
            if self._now() > self._good_until:
                self._lose("EXPIRED")
            envelope = self.envelope
            try:
                await self._require_no_end()
                held = await self._tasks.restore(
                    envelope,
                    self.sealed(envelope),
                    self.sealed_checkpoint(),
                    self.token,
                    progress=self.progress,
                    worker=self._worker,
                    started_at=self._started_at,
                )
                if held == "LOST":
                    self._lose("LOST")
                await self._require_no_end()  # it may have been written between the question and the restoring
            except Unavailable:
                await self._pause()
                return
            log.warning("Redis had forgotten the task; brought back from memory")

    async def _require_no_end(self) -> None:
        """Stop if the archive knows that the run has ended, and show it; or if the task was deleted."""
        envelope = self.envelope
        match await self._archive.find(envelope.task_id, run=envelope.run):
            case EndedTask(task=ended):
                await self._tasks.settle(ended)
                self._lose("ENDED")
            case Forgotten(owner_id=owner):
                await self._tasks.forget(envelope.task_id, owner, again=True)
                self._lose("DELETED")
            case None:
                return

    async def _until_reported(self, interval: float) -> None:
        try:
            async with asyncio.timeout(interval):
                await self._reported.wait()
        except TimeoutError:
            return

    async def _pause(self) -> None:
        """Wait a moment for a server, or give up: past its time, another worker may hold the task already."""
        if self.lost.is_set() or self._now() > self._good_until:
            self._lose("EXPIRED")
        await asyncio.sleep(RETRY_SECONDS)

    def _lose(self, held: str) -> None:
        if not self.lost.is_set():
            log.warning("lease lost", held=held)
            self.lost.set()
        raise LeaseLost


def _nobody() -> None:
    """Nobody wants to know."""
