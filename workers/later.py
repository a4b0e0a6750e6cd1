"""Later: work beside an attempt that begins after a while, or sooner when it is asked for.

Most jobs end before: such work has cost them a timer, and no task.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from app.cancelling import cancel


class Later:
    """Work that has not begun yet, or has, or never will."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], *, after: float, name: str) -> None:
        """Begin it after so many seconds."""
        self._work: Callable[[], Coroutine[Any, Any, None]] | None = work
        """None: it does not begin any more. Whoever knows us may be known by the work: a cycle, for each job."""
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(after, self.begin)

    def begin(self) -> None:
        """Begin now, unless it has begun."""
        if self._task is None and self._work is not None:
            self._timer.cancel()
            self._task = asyncio.create_task(self._work(), name=self._name)

    async def stop(self) -> None:
        """Stop it, and wait until it has stopped; it does not begin any more."""
        self._work = None
        self._timer.cancel()
        if self._task is not None:
            await cancel(self._task)
