"""Purge: removes what is past its time: result files, and rows of the archive; also doubts whose request has died."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from app.archive.archive import Archive
from app.results.store import ResultStore

INTERVAL: Final = timedelta(minutes=1)
PORTION: Final = 200
REFUSED_FOR: Final = timedelta(days=7)
"""How long a refused message is remembered: longer than any broker keeps one that nobody has consumed."""
DOUBTED_FOR: Final = timedelta(minutes=1)
"""After so long nobody decides about a doubtful message any more: a request takes seconds for that. Unless it finds its
tombstone, the message may run. A request that stood still for longer finds its doubt gone, and refuses nothing."""


class Purge:
    """Removes, a portion at a time."""

    def __init__(self, archive: Archive, results: ResultStore, *, retention: timedelta) -> None:
        self._archive = archive
        self._results = results
        self._retention = retention
        self._next = 0.0

    async def perform(self) -> None:
        """Remove a portion of what is past its time, once a minute."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL.total_seconds()
        now = datetime.now(UTC)
        expired = await self._archive.expired_results(now, limit=PORTION)
        for one in expired:
            await self._results.remove(one.task_id)
        await self._archive.results_removed(expired)
        await self._archive.purge(
            ended_before=now - self._retention,
            refused_before=now - REFUSED_FOR,
            doubted_before=now - DOUBTED_FOR,
            limit=PORTION,
        )
