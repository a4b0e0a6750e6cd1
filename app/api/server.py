"""The API's server: uvicorn, told of what our streams need.

- Whoever waits for news is told of a stop before uvicorn waits for them to end.
- A WebSocket's peer that does not read can hold a connection for ever: uvicorn's `close` first waits until all that was
  written has left. It is given some seconds, and then the connection is cut.
"""

import gc
import resource
import socket
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.api.dependencies import Services

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport

    from fastapi import FastAPI

    from app.settings import ApiSettings

MAX_WEBSOCKET_MESSAGE: Final = 4096
BUFFER_BYTES: Final = 32 * 1024
"""Of what a WebSocket's peer has not taken yet, before we wait for it; the kernel holds more."""
CUT_SECONDS: Final = 10.0


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket of which little waits for a slow peer, and that ends."""

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

    async def run_asgi(self) -> None:
        """Serve the socket; when that has ended, what is still to leave has some seconds to do so."""
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
                http="httptools",
                ws=BoundedWebSocket,
                ws_max_size=MAX_WEBSOCKET_MESSAGE,
                ws_per_message_deflate=False,  # about 316 KiB for each socket
                lifespan="on",
                log_config=None,
                access_log=False,  # ours says more, and has no query string: tickets stand there
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_seconds,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open everything, and spare the collector what is there by then: it stays as long as the process."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would wait for news, then all else."""
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.watching.stop()
        await super().shutdown(sockets)
