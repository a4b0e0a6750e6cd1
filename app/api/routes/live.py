"""`WS /v1/workload/{task_id}/ws` and `WS /v1/workload/ws`: follow a task, or all of one's tasks, live."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from app.api.dependencies import Services, path_task_id, stream_principal
from app.api.streams import FRAMES, FrameWriter, SocketWire, socket_message
from app.cancelling import cancel
from app.domain.errors import InsufficientScope, LonghaulError, NotFound, Restarting, Unauthorized, Unavailable
from app.security.principal import Principal
from app.service.tickets import TicketKind
from app.service.watching import Event, Wire

PROTOCOL: Final = "longhaul.v1"
BEARER_PREFIX: Final = "bearer."
CLOSE_SECONDS: Final = 5.0
"""How long a closing waits for a reader that has stopped to read; the server then drops it."""

NORMAL: Final = 1000
INTERNAL: Final = 1011
RESTART: Final = 1012
OVERLOADED: Final = 1013
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
NOT_FOUND: Final = 4404

Watch = Callable[[Services, Principal, Wire | None], AbstractAsyncContextManager[AsyncIterator[Event]]]

router: Final = APIRouter()


@router.websocket("/v1/workload/ws")
async def follow_all(socket: WebSocket) -> None:
    """Send the newest living tasks' documents, then each newer one of any of the caller's tasks."""
    await _serve(socket, lambda services, principal, wire: services.watching.everything(principal=principal, wire=wire))


@router.websocket("/v1/workload/{task_id}/ws")
async def follow(socket: WebSocket, task_id: str) -> None:
    """Send the task's document, then each newer one; close after the terminal one. Refusals are close codes."""
    await _serve(
        socket,
        lambda services, principal, wire: services.watching.task(path_task_id(task_id), principal=principal, wire=wire),
    )


async def _serve(socket: WebSocket, watch: Watch) -> None:
    services: Services = socket.app.state.services
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    code, reason = NORMAL, ""
    try:
        if not _origin_is_ours(socket, services):
            raise InsufficientScope("This origin may not connect.")
        principal = await stream_principal(socket, TicketKind.WS, _authorization(socket, offered))
        await _first(_send(socket, services, principal, watch), _listen(socket))
    except WebSocketDisconnect:
        return
    except LonghaulError as error:
        code, reason = _close_code(error), error.detail
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):  # the peer was quicker, or is stuck
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(code, reason[:100])


async def _send(socket: WebSocket, services: Services, principal: Principal, watch: Watch) -> None:
    # Of a server that is not ours (`app/api/server.py`) all events come through here.
    writer: FrameWriter | None = socket.scope.get("extensions", {}).get(FRAMES, {}).get("writer")
    wire = SocketWire(writer, services.frames) if writer else None
    async with watch(services, principal, wire) as events:
        async for event in events:
            await socket.send_text(socket_message(event, services.documents))


async def _listen(socket: WebSocket) -> None:
    """Read what the peer says, since that is how its going is seen; the words are ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
    raise WebSocketDisconnect


async def _first(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first has ended, end the rest, and raise what the first one raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(*tasks)
    for task in done:
        task.result()


def _authorization(socket: WebSocket, offered: list[str]) -> list[str]:
    """Return the Authorization header, or what stands for it: a token that a browser offers as a subprotocol."""
    tokens = [name.removeprefix(BEARER_PREFIX) for name in offered if name.startswith(BEARER_PREFIX)]
    return socket.headers.getlist("authorization") or [f"Bearer {token}" for token in tokens]


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
        case Restarting():
            return RESTART
        case Unavailable():
            return OVERLOADED
        case _:
            return INTERNAL
