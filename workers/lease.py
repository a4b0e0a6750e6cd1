"""Lease: the right to write to one task, kept by beats until it ends or is lost.

Progress rides on the beats: only the newest report is written, a few times a second at most, never one write a row.
A lost lease is final: whatever this worker still does, it writes nothing more.
"""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.domain.errors import LeaseLost, StoreUnavailable
from app.observability.logging import get_log
from app.store.tasks import TaskStore

REPORT_SECONDS: Final = 0.25
"""Progress is written at most so often."""
BEATS_PER_LEASE: Final = 3
RETRY_SECONDS: Final = 0.5

log = get_log("lease")


class Lease:
    """One attempt's hold on a task."""

    def __init__(self, tasks: TaskStore, task_id: UUID, token: int, *, progress: int) -> None:
        """Take over what `claim` gave.

        Args:
            tasks: Where the task is kept.
            task_id: The task.
            token: The attempt's fencing token.
            progress: Where the attempt starts, in percent.
        """
        self._tasks = tasks
        self._task_id = task_id
        self.token = token
        self.lost = asyncio.Event()
        self._progress = progress
        self._message: str | None = None
        self._reported = asyncio.Event()
        self._good_until = self._now() + tasks.lease.total_seconds()

    def report(self, percent: int, message: str | None) -> None:
        """Note how far the attempt is; a later beat writes it. Progress does not fall."""
        if percent > self._progress or (message is not None and message != self._message):
            self._progress = max(self._progress, percent)
            self._message = message if message is not None else self._message
            self._reported.set()

    async def commit(self, sealed: bytes) -> None:
        """Store a checkpoint, durably; waits while Redis is away.

        Raises:
            LeaseLost: Nothing was stored.
        """
        while not self.lost.is_set():
            asked_at = self._now()
            try:
                await self._tasks.commit(self._task_id, self.token, sealed, progress=self._progress)
            except StoreUnavailable:
                await self._pause()
            except LeaseLost:
                self.lost.set()
                raise
            else:
                self._renewed(asked_at)
                return
        raise LeaseLost

    async def keep(self) -> None:
        """Beat, three times in a lease and with every report, until the lease is lost."""
        interval = self._tasks.lease / timedelta(seconds=BEATS_PER_LEASE)
        while not self.lost.is_set():
            await self._until_reported(interval)
            self._reported.clear()
            asked_at = self._now()
            try:
                held = await self._tasks.beat(self._task_id, self.token, progress=self._progress, message=self._message)
            except StoreUnavailable:
                self._reported.set()
                await self._pause()
                continue
            if held == "HELD":
                self._renewed(asked_at)
                await asyncio.sleep(min(REPORT_SECONDS, interval))
            else:
                log.warning("lease lost", held=held)
                self.lost.set()

    async def _until_reported(self, interval: float) -> None:
        try:
            async with asyncio.timeout(interval):
                await self._reported.wait()
        except TimeoutError:
            return

    async def _pause(self) -> None:
        """Wait a moment for Redis, or give up: past its time, another worker may hold the task already."""
        if self._now() > self._good_until:
            log.warning("lease lost", held="EXPIRED")
            self.lost.set()
        else:
            await asyncio.sleep(RETRY_SECONDS)

    def _renewed(self, asked_at: float) -> None:
        # Our own monotonic clock, from before we asked: never later than what Redis thinks.
        self._good_until = max(self._good_until, asked_at + self._tasks.lease.total_seconds())

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
