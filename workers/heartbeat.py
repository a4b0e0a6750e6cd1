"""Heartbeat: every few seconds a worker tells Redis that it lives and what it is at, for operators to see.

Nothing depends on it: while Redis is away the work goes on, and nobody sees it.
"""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from app import __version__
from app.domain.errors import StoreUnavailable
from app.service.publication import now_ms
from app.store.workers import HEARTBEAT, CurrentTask, ServedQueue, WorkerReport, Workers
from workers.executors.proc import family, resident_bytes
from workers.lease import Lease

SHOWN: Final = 100
"""How many current tasks a heartbeat names."""


@dataclass(frozen=True, slots=True, eq=False)  # told apart by identity: tokens are unique for one task only
class _Job:
    lease: Lease
    began: int

    def shown(self) -> CurrentTask:
        envelope = self.lease.envelope
        return CurrentTask(
            task_id=str(envelope.task_id),
            action=envelope.action,
            queue=envelope.queue,
            attempt=envelope.attempt,
            progress=self.lease.progress,
            started_at=self.began,
        )


class Roster:
    """The attempts that run in this process."""

    def __init__(self) -> None:
        self._jobs: dict[_Job, None] = {}
        """In the order in which they began."""

    @contextmanager
    def listing(self, lease: Lease) -> Iterator[None]:
        """List an attempt for as long as it runs."""
        job = _Job(lease, now_ms())
        self._jobs[job] = None
        try:
            yield
        finally:
            del self._jobs[job]

    def running(self) -> Counter[str]:
        """Return how many attempts run, by queue."""
        return Counter(job.lease.envelope.queue for job in self._jobs)

    def shown(self) -> list[CurrentTask]:
        """Return the longest-running ones."""
        return [job.shown() for job in list(self._jobs)[:SHOWN]]


class Heartbeat:
    """Tells of one worker."""

    def __init__(self, workers: Workers, roster: Roster, *, worker: str, slots: Mapping[str, int]) -> None:
        """Take what is to be told.

        Args:
            workers: Where it is told.
            roster: What runs.
            worker: The worker's id, as a task's hash has it.
            slots: How many jobs of each served queue may run at once.
        """
        self._workers = workers
        self._roster = roster
        self._worker = worker
        self._slots = slots
        self._started_at = int(psutil.Process().create_time() * 1000)

    async def run(self) -> None:
        """Beat until cancelled, then sign off."""
        try:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    await self._workers.report(await self._report())
                await asyncio.sleep(HEARTBEAT.total_seconds())
        finally:
            with contextlib.suppress(StoreUnavailable):
                await self._workers.leave(self._worker)

    async def _report(self) -> WorkerReport:
        processes = await asyncio.to_thread(family, os.getpid())  # walks through /proc
        running = self._roster.running()
        return WorkerReport(
            id=self._worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            seen_at=now_ms(),
            rss_bytes=sum(map(resident_bytes, processes)),
            children=len(processes) - 1,
            queues=[ServedQueue(name, running[name], slots) for name, slots in self._slots.items()],
            tasks=self._roster.shown(),
        )
