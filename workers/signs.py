"""Sign: an event that calls back. To wait for one of several events takes a task for each; to be called takes none."""

import asyncio
from collections.abc import Callable


class Sign(asyncio.Event):
    """Something that happens once."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[Callable[[], None]] = set()

    def tell(self, call: Callable[[], None]) -> None:
        """Call when it happens; now, if it has."""
        if self.is_set():
            call()
        self._told.add(call)

    def tell_no_more(self, call: Callable[[], None]) -> None:
        """Do not call any more."""
        self._told.discard(call)

    def set(self) -> None:
        """Let it happen."""
        if not self.is_set():
            super().set()
            for call in [*self._told]:
                call()
