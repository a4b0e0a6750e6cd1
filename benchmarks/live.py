"""How fast news reaches many sockets on one API process, and what one Redis subscription for all of them brings.

Against a running stack (`make up`):

    .venv/bin/python benchmarks/live.py [--sockets 1000] [--rounds 50] [--stack .run/stack.json]

1. *Latency*: all sockets follow one task; each round changes it once, and the time from before the change to each
   socket's message is taken. Printed: p50, p99, and the slowest.
2. *Throughput*, both in the same run, on the same Redis, with the same client: one change after the other, each as soon
   as every socket has had the one before; sockets x changes per second. Once over the API, and once over a server that
   does the simplest thing: a Redis subscription for each socket, whose messages it passes on as they are.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psutil
import uvloop
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from app.domain.envelope import Envelope
from app.domain.task import Owner
from app.store.connection import connect
from app.store.keys import live_key, shard_of, task_key
from app.store.replies import Claimed, Created
from app.store.tasks import TaskStore

CHANNEL = "longhaul:owner:benchmark"
HOUR = timedelta(hours=1)
LONG = 127
MEDIUM = 126
TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A


class Reader(asyncio.Protocol):
    """A WebSocket client that does little more than to note when a message came: the client must not be measured."""

    def __init__(self, path: str, host: str, token: str, heard: Callable[[float], None]) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()
        self._heard = heard
        self._buffer = b""
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if not self._is_open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._is_open, self._buffer = True, rest
        while (size := self._whole_frame()) is not None:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            assert frame[0] != CLOSE, frame
            if frame[0] == PING:
                self._transport.write(bytes([PONG, 0x80 | len(frame) - 2]) + bytes(4) + frame[2:])  # the mask: zeros
            if frame[0] == TEXT and b'"type":"ping"' not in frame[:20]:
                self._heard(now)

    def _whole_frame(self) -> int | None:
        data = self._buffer
        if len(data) < 10:
            return None
        size = data[1]
        if size == MEDIUM:
            size = 4 + struct.unpack("!H", data[2:4])[0]
        elif size == LONG:
            size = 10 + struct.unpack("!Q", data[2:10])[0]
        else:
            size += 2
        return size if len(data) >= size else None


class Crowd:
    """Many readers of one path."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._expected = 0
        self._complete = asyncio.Event()

    def heard(self, at: float) -> None:
        self.times.append(at)
        if len(self.times) >= self._expected:
            self._complete.set()

    def expect(self, count: int) -> None:
        self.times.clear()
        self._expected = count
        self._complete.clear()

    async def complete(self) -> None:
        async with asyncio.timeout(60):
            await self._complete.wait()

    async def open(self, url: str, path: str, token: str, count: int, *, first: bool) -> list[Any]:
        """Open the sockets, and wait for the first message of each, where one comes by itself."""
        parts, loop = urlsplit(url), asyncio.get_running_loop()
        self.expect(count)
        transports = []
        for _ in range(count):
            transport, _ = await loop.create_connection(
                lambda: Reader(path, parts.netloc, token, self.heard), parts.hostname or "127.0.0.1", parts.port or 80
            )
            transports.append(transport)
        if first:
            await self.complete()
        return transports


async def latency(crowd: Crowd, change: Callable[[int], Coroutine[Any, Any, None]], count: int, rounds: int) -> None:
    """Measure and print how late news is."""
    late: list[float] = []
    for number in range(rounds):
        crowd.expect(count)
        began = time.perf_counter()
        await change(number)
        await crowd.complete()
        late += [(at - began) * 1000 for at in crowd.times]
        await asyncio.sleep(0.1)
    hundredths = statistics.quantiles(late, n=100)
    print(
        f"latency: {count} sockets, {rounds} changes: p50 {hundredths[49]:.1f} ms, p99 {hundredths[98]:.1f} ms, "
        f"slowest {max(late):.1f} ms"
    )


async def throughput(
    crowd: Crowd, change: Callable[[int], Coroutine[Any, Any, None]], count: int, rounds: int, server: psutil.Process
) -> tuple[float, float]:
    """Return sockets x changes per second, and per second of the server's processor time."""
    began, used = time.perf_counter(), sum(server.cpu_times()[:2])
    for number in range(rounds):
        crowd.expect(count)
        await change(number)
        await crowd.complete()
    messages = count * rounds
    return messages / (time.perf_counter() - began), messages / (sum(server.cpu_times()[:2]) - used)


async def staged_task(store: TaskStore, owner: Owner) -> tuple[UUID, int]:
    """Make a task that an attempt is at, of which no worker knows."""
    envelope = Envelope(
        task_id=uuid4(), message_id="m", action="noop", queue="bench", owner=owner, params={}, max_attempts=5,
        created_at=time.time_ns() // 1_000_000,
    )  # fmt: skip
    created = await store.create(envelope, b"sealed")
    assert isinstance(created, Created), created
    await store.queued(envelope, created.epoch)
    claimed = await store.claim(envelope, b"sealed", checkpoint=None, worker="benchmark", copy_id="copy")
    assert isinstance(claimed, Claimed)
    return envelope.task_id, claimed.token


async def run(arguments: argparse.Namespace) -> None:
    """Do both measurements."""
    stack = json.loads(Path(arguments.stack).read_text())
    token, redis = stack["tokens"]["alice"], connect(stack["redis_url"])
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    store = TaskStore(redis, lease=HOUR, status_ttl=HOUR)
    task_id, attempt = await staged_task(store, Owner(claims["iss"], claims["sub"]))

    async def beat(number: int) -> None:
        await store.beat(task_id, 1, attempt, progress=0, message=f"change {number} {uuid4().hex}")

    try:
        crowd = Crowd()
        path = f"/v1/workload/{task_id}/ws"
        transports = await crowd.open(stack["base_url"], path, token, arguments.sockets, first=True)
        await latency(crowd, beat, arguments.sockets, arguments.rounds)
        for transport in transports[arguments.compared :]:
            transport.close()
        await asyncio.sleep(1)
        server = psutil.Process(stack["pids"]["api"][0])
        ours = await throughput(crowd, beat, arguments.compared, arguments.rounds, server)
        for transport in transports:
            transport.close()
        text = await redis.hget(task_key(task_id), "message")
        simple = await of_a_simple_server(stack["redis_url"], arguments, len(text or b"") + 700)
        for what, one, other in zip(("second", "second of processor time"), ours, simple, strict=True):
            print(
                f"throughput with {arguments.compared} sockets, messages per {what}: {one:,.0f} over one subscription, "
                f"{other:,.0f} over one each: {one / other:.1f} x"
            )
    finally:
        await redis.delete(task_key(task_id))
        await redis.zrem(live_key(shard_of(task_id)), str(task_id))
        await redis.aclose()


async def of_a_simple_server(redis_url: str, arguments: argparse.Namespace, size: int) -> tuple[float, float]:
    """Return the throughput of a server with a subscription for each socket, for messages of so many bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"BENCHMARK_REDIS_URL": redis_url}
    server = subprocess.Popen(  # noqa: ASYNC220  # it takes a moment, before anything is measured
        [sys.executable, __file__, "--serve", str(port)], env=environment
    )
    try:
        redis, crowd = Redis.from_url(redis_url), Crowd()
        await _listening(port)
        transports = await crowd.open(f"http://127.0.0.1:{port}", "/", "", arguments.compared, first=True)

        async def publish(number: int) -> None:
            await redis.publish(CHANNEL, f"{number} ".ljust(size, "x"))

        rate = await throughput(crowd, publish, arguments.compared, arguments.rounds, psutil.Process(server.pid))
        for transport in transports:
            transport.close()
        await redis.aclose()
        return rate
    finally:
        server.terminate()
        server.wait()


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise TimeoutError("the simple server did not start")


def serve(port: int) -> None:
    """Be the simple server, in the same uvicorn."""
    import uvicorn  # noqa: PLC0415

    redis = Redis.from_url(os.environ["BENCHMARK_REDIS_URL"], max_connections=100_000)

    async def follow(peer: WebSocket) -> None:
        await peer.accept()
        async with redis.pubsub() as subscription:
            await subscription.subscribe(CHANNEL)
            await peer.send_text("subscribed")
            async for message in subscription.listen():
                if message["type"] == "message":
                    await peer.send_text(message["data"].decode())

    uvicorn.run(
        Starlette(routes=[WebSocketRoute("/", follow)]), port=port, loop="uvloop", ws="websockets-sansio",
        ws_per_message_deflate=False, log_level="critical", timeout_graceful_shutdown=1,
    )  # fmt: skip


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--compared", type=int, default=300, help="sockets of the second measurement")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--stack", default=".run/stack.json")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    else:
        uvloop.run(run(arguments))  # as the servers: a slower client would be what is measured


if __name__ == "__main__":
    main()
