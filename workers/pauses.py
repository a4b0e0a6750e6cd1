"""Pauses: which queues this engine may consume. Operators pause and resume them in SQL; it is asked every two seconds.

While SQL is away everything stays as it was: a paused queue paused, another one served.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Final

from app.archive.pauses import Pauses
from app.domain.errors import ArchiveUnavailable
from app.observability.logging import get_log

LOOK_SECONDS: Final = 2.0

log = get_log("pauses")


class Gate:
    """Whether a queue may be consumed: either event is set, and the other is not."""

    def __init__(self) -> None:
        """Begin open."""
        self.opened = asyncio.Event()
        self.shut = asyncio.Event()
        self.opened.set()

    def set(self, *, is_open: bool) -> None:
        """Open or shut it."""
        now, before = (self.opened, self.shut) if is_open else (self.shut, self.opened)
        before.clear()
        now.set()


class PauseWatch:
    """Keeps the gates of one engine's queues as SQL has them."""

    def __init__(self, pauses: Pauses, queues: Iterable[str]) -> None:
        self._pauses = pauses
        self.gates = {queue: Gate() for queue in queues}

    async def look(self) -> None:
        """Set the gates.

        Raises:
            ArchiveUnavailable: They stay as they were.
        """
        paused = await self._pauses.all()
        for queue, gate in self.gates.items():
            gate.set(is_open=queue not in paused)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1))  # noqa: S311  # spreads many workers
            try:
                await self.look()
            except ArchiveUnavailable as error:
                log.warning("cannot see which queues are paused", reason=error.detail)
