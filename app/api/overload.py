"""Overload: what one process takes on at once. Beyond it, it says so at once instead of becoming slow for everybody.

Requests are counted here, whoever sends them; for watchers, who stay for long, see `app/service/watcher_places.py`.
"""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import problem_response
from app.domain.errors import Overloaded

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Whoever keeps the process alive must not take a busy one for a dead one."""


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
