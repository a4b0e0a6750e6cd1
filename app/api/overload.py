"""Overload: what one process takes on at once. Beyond it, it says so at once instead of becoming slow for everybody.

Requests are counted by the middleware, whoever sends them. Watchers (WebSockets, event streams, long polls) stay for
long, and hold a place each: so many of one owner, so many in all.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import problem_response
from app.domain.errors import Overloaded

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Whoever keeps the process alive must not take a busy one for a dead one."""


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


class RequestPlaces:
    """Middleware: refuses requests beyond so many at once. The probes of the process's keepers always pass."""

    def __init__(self, app: ASGIApp, *, total: int) -> None:
        self._app = app
        self._total = total
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._taken >= self._total:
            refusal = Overloaded("This process has as many requests as it can take on.", retry_after=1)
            await problem_response(refusal, scope, request_id=scope["state"]["request_id"])(scope, receive, send)
            return
        self._taken += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._taken -= 1
