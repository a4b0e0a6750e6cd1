"""The API's server: uvicorn, told of what our streams need.

- Whoever waits for news is told of a stop before uvicorn waits for them to end.
- What precedes and follows a body is bounded, too: httptools would keep a header field without an end for ever.
- A WebSocket's peer that does not read can hold a connection for ever: uvicorn's `close` first waits until all that was
  written has left. It is given some seconds, and then the connection is cut.
"""

import re
import resource
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import OPEN

from app.api.dependencies import Services
from app.api.errors import problem_response
from app.api.middleware import SECURITY_HEADERS, request_id_of
from app.api.streams import FRAMES
from app.collector import spare_the_collector
from app.domain.errors import HeadersTooLarge, LonghaulError, Malformed

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport

    from fastapi import FastAPI
    from uvicorn._types import ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent

    from app.settings import ApiSettings

MAX_WEBSOCKET_MESSAGE: Final = 4096
MAX_UNFINISHED: Final = 65_536
"""Bytes that are no body and have no end yet. Twice `MAX_HEADER_BYTES`, which is answered in its turn, after 401."""
BUFFER_BYTES: Final = 32 * 1024
"""Of what a WebSocket's peer has not taken yet, before we wait for it; the kernel holds more."""
CUT_SECONDS: Final = 10.0
UNUSUAL: Final = frozenset({b"connection", b"transfer-encoding"})
"""Header fields of a response that uvicorn is left to understand."""
NOT_IN_A_HEAD: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Beyond CR and LF, which are counted: what would end a field where nobody has ended it (RFC 9110, section 5.5)."""
KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection stays open: longer than its client keeps it (httpx 5 s, nginx and most balancers 60 s).

Whoever closes first must not be us: a request that arrives in that moment is lost, and its sender cannot know whether
it was done.
"""


class OneWriteCycle(RequestResponseCycle):
    """Sends a response that is whole, as nearly all are, in one write; all others as uvicorn (0.54) does.

    uvicorn writes head and body apart, and each write is a packet, which on a loaded machine costs more than all of our
    own code that makes a status document; and it looks through each field by itself.
    """

    _head: "HTTPResponseStartEvent | None" = None
    _length: bytes | None = None

    async def send(self, message: "ASGISendEvent") -> None:
        """See ASGI. A head that says how long its body is waits for it."""
        if message["type"] == "http.response.start" and not self.response_started and self._head is None:
            fields = dict(message.get("headers", ()))
            self._length = fields.get(b"content-length")
            if self._length is not None and not UNUSUAL & fields.keys():
                self._head = message
                return
        elif self._head is not None:
            head, self._head = self._head, None
            if message["type"] == "http.response.body" and self._is_whole(message):
                self._write(head, message.get("body", b""))
                return
            await super().send(head)
        await super().send(message)

    async def send_500_response(self) -> None:
        """See uvicorn: a head that waits for its body was the answer; it is sent, and cut off."""
        head, self._head = self._head, None
        if head is None:
            await super().send_500_response()
        else:
            await super().send(head)
            self.transport.close()

    def _is_whole(self, message: "HTTPResponseBodyEvent") -> bool:
        return (
            not message.get("more_body", False)
            and not self.flow.write_paused
            and not self.disconnected
            and self.scope["method"] != "HEAD"
            and self._length == b"%d" % len(message.get("body", b""))
        )

    def _write(self, start: "HTTPResponseStartEvent", body: bytes) -> None:
        fields = [*self.default_headers, *start.get("headers", ())]
        if not self.keep_alive:
            fields.append((b"connection", b"close"))
        head = STATUS_LINE[start["status"]] + b"\r\n".join(map(b": ".join, fields)) + b"\r\n"
        lines = len(fields) + 1
        if head.count(b"\r") != lines or head.count(b"\n") != lines or NOT_IN_A_HEAD.search(head):
            raise RuntimeError("Invalid HTTP header.")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(b"%b\r\n%b" % (head, body))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 whose heads and trailers are bounded while they come; its refusals are problems like all others."""

    _unfinished = 0
    _in_head = False

    def data_received(self, data: bytes) -> None:
        """Parse what has come; a request line, a header or a trailer that goes on and on ends the connection."""
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > MAX_UNFINISHED and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self._refuse(HeadersTooLarge())
            else:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """See httptools."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field, and no trailer for one: no proxy has looked at it (RFC 9110, section 6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head = False
        self._unfinished = 0
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not None and self.cycle is not before:
            self.cycle.__class__ = OneWriteCycle  # it has not begun: its task is new

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._unfinished = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(Malformed(msg))

    def _refuse(self, error: LonghaulError) -> None:
        """Answer a request that cannot be read, so that no part of the application has seen it, and hang up."""
        request_id = request_id_of([])  # none of it could be read
        answer = problem_response(error, {"raw_path": b""}, request_id=request_id)
        answer.headers.update(SECURITY_HEADERS | {"X-Request-ID": request_id, "Connection": "close"})
        lines = [f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}".encode()]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket of which little waits for a slow peer, and that ends. The application may write frames to it."""

    def connection_made(self, transport: "BaseTransport") -> None:
        """Bound what waits."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)

    def keepalive_timeout(self) -> None:
        """Cut the connection of a peer that has not answered a ping: it would not read a farewell either."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """Say farewell (1012), and wait for it to leave, but not for ever."""
        super().shutdown()
        self.loop.call_later(CUT_SECONDS, self.transport.abort)

    def is_free(self) -> bool:
        """See `streams.FrameWriter`."""
        return self.writable.is_set() and self.conn.state is OPEN and not self.transport.is_closing()

    def write(self, frame: bytes) -> None:
        """See `streams.FrameWriter`."""
        self.transport.write(frame)

    async def run_asgi(self) -> None:
        """Serve the socket; when that has ended, what is still to leave has some seconds to do so."""
        self.scope["extensions"][FRAMES] = {"writer": self}
        try:
            await super().run_asgi()
        finally:
            if not self.disconnected:
                self.loop.call_later(CUT_SECONDS, self.transport.abort)


def allow_many_connections() -> None:
    """Raise the soft limit of open files, 1024 on most machines, to the hard one: each stream is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class ApiServer(uvicorn.Server):
    """Runs the application on one event loop, until SIGTERM."""

    def __init__(self, app: "FastAPI", settings: "ApiSettings", *, host: str, port: int) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                loop="uvloop",
                http=BoundedHttp,
                ws=BoundedWebSocket,
                ws_max_size=MAX_WEBSOCKET_MESSAGE,
                ws_per_message_deflate=False,  # about 316 KiB for each socket
                lifespan="on",
                log_config=None,
                access_log=False,  # ours says more, and has no query string: tickets stand there
                server_header=False,
                proxy_headers=False,  # nobody asks for the caller's address or scheme
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=settings.shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open everything."""
        await super().startup(sockets)
        spare_the_collector()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would wait for news, then all else."""
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.watching.stop()
        await super().shutdown(sockets)
