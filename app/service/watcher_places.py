"""Watcher places: WebSockets, event streams and long polls stay for long, and hold a place each.

So many of one owner, so many in all of a process: beyond it, it says so at once instead of becoming slow for everybody.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.errors import Overloaded


class WatcherPlaces:
    """The places of one process's watchers."""

    def __init__(self, *, total: int, each: int) -> None:
        """Take the limits.

        Args:
            total: Watchers of the whole process.
            each: Watchers of one owner.
        """
        self._total = total
        self._each = each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Hold a place for one watcher inside of the block.

        Args:
            owner: The owner's digest.

        Raises:
            Overloaded: The owner, or the process, has none left. A WebSocket is closed with 1013, a request gets 503.
        """
        if self._taken[owner] >= self._each:
            raise Overloaded(f"At most {self._each} connections of one caller may wait for changes here.")
        if self._taken.total() >= self._total:
            raise Overloaded("This process has as many connections that wait for changes as it can hold.")
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
