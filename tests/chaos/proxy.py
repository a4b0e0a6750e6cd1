"""Proxy: a TCP proxy that does to its connections what networks do, and what they do at the worst moment.

Each process of the stage has one for each server, so that one process may be cut off while the others are not.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import Final, Self

from stack.ports import HOST, free_port

CHUNK_BYTES: Final = 65_536
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends RST and throws away what was not sent."""


class Way(Enum):
    """In which direction bytes go."""

    UP = "to the server"
    DOWN = "to the client"


class Proxy:
    """One process's way to one server."""

    def __init__(self, name: str, port: int) -> None:
        """Name it; nothing listens yet.

        Args:
            name: For what is written down.
            port: The server's, on 127.0.0.1.
        """
        self.name = name
        self.port = free_port()
        self._target = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._random = random.Random(name)
        self.latency = 0.0
        """Seconds that each chunk of bytes is late, and up to twice that by chance."""
        self.refuses = False
        self._open = {way: asyncio.Event() for way in Way}
        for gate in self._open.values():
            gate.set()
        self._answers_to_lose = 0
        self._bytes_to_keep = 0
        self.lost_answers = 0

    def url(self, url: str) -> str:
        """The same URL, through here."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    # --- faults

    def cut(self, *, reset: bool) -> int:
        """End every connection, with RST or in order (FIN); how many there were. New ones are taken."""
        connections = list(self._connections)
        for connection in connections:
            connection.end(reset=reset)
        return len(connections)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Inside the block the server cannot be reached: connections are reset, and new ones, too."""
        self.refuses = True
        self.cut(reset=True)
        try:
            yield
        finally:
            self.refuses = False

    def hold(self, way: Way) -> None:
        """Swallow what goes this way, like a network that has lost its route; it arrives after `release`."""
        self._open[way].clear()

    def release(self) -> None:
        """Let through what was held back, and what comes."""
        for gate in self._open.values():
            gate.set()

    def lose_answers(self, count: int, *, keep: int = 0) -> None:
        """Of the next answers lose so many: the server has done what was asked, and the asker sees a reset.

        Args:
            count: How many; each ends its connection. 0 takes the order back.
            keep: So many bytes of each still arrive: the cut is in the middle of an answer.
        """
        self._answers_to_lose, self._bytes_to_keep = count, keep

    # --- connections

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut(reset=True)
        await asyncio.gather(*(connection.ended() for connection in list(self._connections)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            _end(writer, reset=True)
            return
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:
            _end(writer, reset=True)
            return
        connection = _Connection(self, reader, writer, there, back)
        self._connections.add(connection)
        try:
            await connection.ended()
        finally:
            self._connections.discard(connection)

    async def passage(self, way: Way) -> None:
        """Wait for as long as bytes take to get through."""
        if self.latency:
            await asyncio.sleep(self.latency * (1 + self._random.random()))
        await self._open[way].wait()

    def loses(self, way: Way) -> int | None:
        """Whether the bytes in hand are an answer to be lost: how many of them still arrive, or None."""
        if way is Way.UP or self._answers_to_lose <= 0:
            return None
        self._answers_to_lose -= 1
        self.lost_answers += 1
        return self._bytes_to_keep


class _Connection:
    """A client's connection and ours to the server, and the two pipes between them."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._writers = (writer, back)
        self._pipes = [
            asyncio.create_task(self._pipe(reader, back, Way.UP)),
            asyncio.create_task(self._pipe(there, writer, Way.DOWN)),
        ]

    async def ended(self) -> None:
        """Wait until both pipes have ended."""
        await asyncio.gather(*self._pipes, return_exceptions=True)

    def end(self, *, reset: bool) -> None:
        """Cut it on both sides; what is on its way is lost."""
        for pipe in self._pipes:
            pipe.cancel()
        for writer in self._writers:
            _end(writer, reset=reset)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way) -> None:
        with contextlib.closing(sink), contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                await self._proxy.passage(way)
                keep = self._proxy.loses(way)
                if keep is not None:
                    if keep:
                        sink.write(data[:keep])
                        await sink.drain()
                    self.end(reset=True)
                    return
                sink.write(data)
                await sink.drain()


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


@asynccontextmanager
async def proxies(*wanted: Proxy) -> AsyncIterator[None]:
    """Open several, and close them."""
    async with contextlib.AsyncExitStack() as stack:
        for proxy in wanted:
            await stack.enter_async_context(proxy)
        yield
