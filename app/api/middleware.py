"""Middleware, as plain ASGI: the request's id, HEAD, the access line, and the last net for what nobody caught."""

import re
import time
from secrets import token_hex
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import NoSuchPath, problem_response
from app.domain.errors import LonghaulError
from app.observability.logging import bind, get_log, unbind

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")

SECURITY_HEADERS: Final = {
    # Nothing that we answer may be taken for a page, or framed by one; the pages among it say what they load.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # tickets and signed links stand in query strings
}

_SECURITY_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

ANSWERS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})

log = get_log("api")


class RequestContext:
    """Gives each request its id, and answers with it; an error that nobody caught becomes a 500 without a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        unbind()
        request_id = request_id_of([value for name, value in scope["headers"] if name == b"x-request-id"])
        bind(request_id=request_id)
        # HEAD is GET to every route: the server sees the request's own scope, and leaves the body out by itself.
        is_head = scope.get("method") == "HEAD"
        inner = dict(scope, method="GET") if is_head else dict(scope)
        inner["state"] = {**scope.get("state", {}), "request_id": request_id, "is_head": is_head}
        began = time.perf_counter()
        answer = _Answer(scope, receive, send, request_id)
        try:
            await self._app(inner, receive, answer.send)
        except ClientDisconnect:
            log.info("the caller went away before its request was complete")
        except Exception:  # the edge: logged once, and shown to nobody
            log.exception("a request failed", path=scope["path"])
            if answer.status == 0:
                response = problem_response(LonghaulError(), scope, request_id=request_id)
                await response(inner, receive, answer.send)
        finally:
            elapsed = round((time.perf_counter() - began) * 1000, 1)
            method, path = scope.get("method", "WS"), scope["path"]
            log.info("answered", method=method, path=path, status=answer.status, ms=elapsed)


class _Answer:
    """What is sent in answer to one request: its id and the security headers are added, its status is seen."""

    __slots__ = ("_receive", "_request_id", "_scope", "_send", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a part of it."""
        kind = message["type"]
        if kind == "websocket.close" and self.status == 0:
            # The router's word for an unknown path: our own routes accept every handshake.
            response = problem_response(NoSuchPath(), self._scope, request_id=self._request_id)
            await response(self._scope, self._receive, self.send)
            return
        if kind in ANSWERS:
            self.status = message.get("status", 101)
            headers = [*message.get("headers", ()), (b"x-request-id", self._request_id.encode())]
            if kind == "http.response.start":
                there = dict(headers)
                headers += [field for field in _SECURITY_HEADERS if field[0] not in there]
            message["headers"] = headers
        await self._send(message)


def request_id_of(sent: list[bytes]) -> str:
    """Return the id that a caller gave its request in these X-Request-ID fields, or a new one."""
    if len(sent) == 1 and REQUEST_ID.fullmatch(sent[0]):
        return sent[0].decode()
    return token_hex(16)
