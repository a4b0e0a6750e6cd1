"""`WS /v1/workload/{task_id}/ws`: follow a task live."""

import asyncio
import contextlib
import json
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from app.api.dependencies import Services, bearer_principal, path_task_id
from app.api.showing import document
from app.domain.errors import InsufficientScope, LonghaulError, NotFound, Unauthorized, Unavailable
from app.domain.task import rfc3339
from app.security.principal import Principal
from app.security.tokens import TokenVerifier

PROTOCOL: Final = "longhaul.v1"
BEARER_PREFIX: Final = "bearer."
PING_SECONDS: Final = 15.0

NORMAL: Final = 1000
INTERNAL: Final = 1011
OVERLOADED: Final = 1013
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
NOT_FOUND: Final = 4404

router: Final = APIRouter()


@router.websocket("/v1/workload/{task_id}/ws")
async def follow(socket: WebSocket, task_id: str) -> None:
    """Send the task's document, then each newer one; close after the terminal one. Refusals are close codes."""
    services: Services = socket.app.state.services
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    code, reason = NORMAL, ""
    try:
        if not _origin_is_ours(socket, services):
            raise InsufficientScope("This origin may not connect.")
        principal = _principal(services.verifier, socket, offered)
        await _first(_Follower(socket, services, path_task_id(task_id), principal).parts())
    except WebSocketDisconnect:
        return
    except LonghaulError as error:
        code, reason = _close_code(error), error.detail
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the peer was quicker
        await socket.close(code, reason[:100])


class _Follower:
    """One socket. It lives until the first of its parts ends: the task, the peer, or the token."""

    def __init__(self, socket: WebSocket, services: Services, task_id: UUID, principal: Principal) -> None:
        self._socket = socket
        self._services = services
        self._task_id = task_id
        self._principal = principal
        self._sending = asyncio.Lock()

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        return [self._send_states(), self._ping(), self._expire(), self._listen()]

    async def _send_states(self) -> None:
        public_url = self._services.settings.public_url
        async with self._services.watching.watch(self._task_id, principal=self._principal) as states:
            async for task in states:
                await self._send({"type": "status", "task": document(task, public_url=public_url)})

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            await self._send({"type": "ping", "time": rfc3339(datetime.now(UTC))})

    async def _expire(self) -> None:
        await asyncio.sleep(max(0.0, self._principal.expires_at - time.time()))
        raise Unauthorized("The token has expired.", token_was_sent=True)

    async def _listen(self) -> None:
        """Read what the peer says, since that is how its going is seen; the words are ignored."""
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass
        raise WebSocketDisconnect

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_text(json.dumps(message, ensure_ascii=False, separators=(",", ":")))


async def _first(parts: list[Coroutine[Any, Any, None]]) -> None:
    """Run all until the first has ended, end the rest, and raise what the first one raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _principal(verifier: TokenVerifier, socket: WebSocket, offered: list[str]) -> Principal:
    """Find the token: in the Authorization header, or, from a browser, among the offered subprotocols."""
    tokens = [name.removeprefix(BEARER_PREFIX) for name in offered if name.startswith(BEARER_PREFIX)]
    headers = socket.headers.getlist("authorization")
    return bearer_principal(verifier, headers or [f"Bearer {token}" for token in tokens])


def _origin_is_ours(socket: WebSocket, services: Services) -> bool:
    """Whether the page that opens the socket, if it is one, comes from us or from an origin that is allowed."""
    origin = socket.headers.get("origin")
    if origin is None:
        return True
    settings = services.settings
    public = urlsplit(settings.public_url)
    ours = {f"{public.scheme}://{public.netloc}", *(f"{s}://{socket.headers.get('host')}" for s in ("http", "https"))}
    return origin in ours or origin in settings.cors_origins


def _close_code(error: LonghaulError) -> int:
    match error:
        case Unauthorized():
            return UNAUTHORIZED
        case InsufficientScope():
            return FORBIDDEN
        case NotFound():
            return NOT_FOUND
        case Unavailable():
            return OVERLOADED
        case _:
            return INTERNAL
