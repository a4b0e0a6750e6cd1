"""Readers in great number, and readers that do not read: memory stays bounded, and nobody else waits for them."""

import asyncio
import socket as sockets_of_the_system
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from tests.api.sockets import Socket, opened
from tests.api.staging import Staging
from tests.live.conftest import Cluster, reached_at, started_api
from tests.support.service import Service
from tests.support.waiting import wait_until

MIB = 1024 * 1024
HANDSHAKE = "GET /v1/workload/{task_id}/{what} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
async def staging(cluster: Cluster, subject: str, tmp_path: Path) -> AsyncIterator[Staging]:
    """Makes tasks of this test's own caller."""
    async with Redis.from_url(cluster.redis.url) as redis:
        made = Staging(redis, cluster.service.settings, subject, tmp_path)
        yield made
        await made.clean_up()


@pytest.fixture
async def stagings(cluster: Cluster, subject: str, tmp_path: Path) -> AsyncIterator[list[Staging]]:
    """Make tasks of five callers: one alone may have 1,000 readers."""
    async with Redis.from_url(cluster.redis.url) as redis:
        made = [Staging(redis, cluster.service.settings, f"{subject} {n}", tmp_path / str(n)) for n in range(5)]
        yield made
        for staging in made:
            await staging.clean_up()


@pytest.fixture
async def own_api(cluster: Cluster) -> tuple[Service, psutil.Process]:
    """An API process of this test's own."""
    process, url = await started_api(cluster.service)
    return reached_at(cluster.service, url), psutil.Process(process.pid)


async def silent_reader(service: Service, task_id: object, what: str, token: str) -> sockets_of_the_system.socket:
    """Open a stream and never read of it."""
    host, port = service.base_url.removeprefix("http://").split(":")
    peer = sockets_of_the_system.socket()
    peer.setsockopt(sockets_of_the_system.SOL_SOCKET, sockets_of_the_system.SO_RCVBUF, 4096)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, (host, int(port)))
    more = UPGRADE if what == "ws" else ""
    request = HANDSHAKE.format(task_id=task_id, what=what, host=host, token=token, more=more)
    await loop.sock_sendall(peer, request.encode())
    return peer


def connections_of(process: psutil.Process) -> Callable[[], Awaitable[int]]:
    """Return what counts a process's open connections to its callers."""
    port = next(one.laddr.port for one in process.net_connections("tcp") if one.status == "LISTEN")

    async def count() -> int:
        found = process.net_connections("tcp")
        return sum(one.laddr.port == port and one.status == "ESTABLISHED" for one in found)

    return count


async def written_into(staging: Staging, task_id: object, token: int, *, changes: int) -> None:
    """Change a task often, with 10 kB each time."""
    for number in range(changes):
        words = f"{number} " + "x" * 10_000
        await staging.store.beat(task_id, 1, token, progress=number % 100, message=words)  # type: ignore[arg-type]


async def test_readers_that_do_not_read_cost_nobody_anything(
    own_api: tuple[Service, psutil.Process], staging: Staging, subject: str
) -> None:
    """10 MB pass by 20 stuck readers, and a reader that reads has the newest state in the end."""
    service, process = own_api
    (task_id, attempt), token = await staging.processing(), service.token(subject)
    stuck = [await silent_reader(service, task_id, what, token) for what in ("ws", "events") * 10]
    try:
        async with opened(service, task_id, token) as reading:
            await reading.next()
            told = asyncio.create_task(read_until(reading, "the last"))
            await written_into(staging, task_id, attempt, changes=300)  # what is to be kept for each, is
            before = process.memory_info().rss
            await written_into(staging, task_id, attempt, changes=1000)
            await staging.store.beat(task_id, 1, attempt, progress=99, message="the last")
            await told
            growth = process.memory_info().rss - before
        assert growth < 20 * MIB, f"{growth / MIB:.1f} MiB for what nobody read"
        seqs = [one["seq"] for one in reading.tasks]
        assert seqs == sorted(set(seqs))
    finally:
        for peer in stuck:
            peer.close()
    await wait_until(gone(process), what="the end of their connections")


async def read_until(reader: Socket, message: str) -> None:
    """Read until the task has this message; a client that does not read answers no pings, and is cut off."""
    while True:
        with suppress(TimeoutError):
            told = await reader.next()
            if told["type"] == "status" and told["task"].get("message") == message:
                return


def gone(process: psutil.Process) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether nobody is connected any more."""
    count = connections_of(process)

    async def nobody() -> bool:
        return await count() == 0

    return nobody


@pytest.mark.slow
async def test_a_reader_that_never_reads_is_cut_off(
    own_api: tuple[Service, psutil.Process], staging: Staging, subject: str
) -> None:
    """It answers no ping either: after 40 s, or some more, its connection is gone, although it holds its end open."""
    service, process = own_api
    (task_id, attempt), token = await staging.processing(), service.token(subject)
    peer = await silent_reader(service, task_id, "ws", token)
    try:
        await written_into(staging, task_id, attempt, changes=1000)
        await wait_until(gone(process), timeout=90, what="the cut")
    finally:
        peer.close()


async def many_sockets(own_api: tuple[Service, psutil.Process], stagings: list[Staging], *, count: int) -> float:
    """Follow tasks with many sockets, see that each has each task's end, and return what one costs, in KiB."""
    service, process = own_api
    staged = [(staging, service.token(staging.owner.subject)) for staging in stagings]
    tasks = [(staging, token, *await staging.processing()) for staging, token in staged * (10 // len(staged))]
    before = process.memory_info().rss
    async with AsyncExitStack() as stack:
        readers: list[Socket] = []
        for start in range(0, count, 50):
            followed = [tasks[at % len(tasks)] for at in range(start, min(start + 50, count))]
            batch = [opened(service, task_id, token) for _, token, task_id, _ in followed]
            readers += await asyncio.gather(*(stack.enter_async_context(one) for one in batch))
        await asyncio.gather(*(reader.next() for reader in readers))
        cost = (process.memory_info().rss - before) / count
        for progress in (20, 40, 60):
            for staging, _, task_id, attempt in tasks:
                await staging.store.beat(task_id, 1, attempt, progress=progress, message="x" * 200)
        for staging, _, task_id, _ in tasks:
            await staging.end(task_id)
        async with asyncio.timeout(120):
            codes = await asyncio.gather(*(patient_code(reader) for reader in readers))
        during = (process.memory_info().rss - before) / count
    assert set(codes) == {1000}
    for reader in readers:
        seqs = [one["seq"] for one in reader.tasks]
        assert seqs == sorted(set(seqs))
        assert reader.tasks[-1]["status"] == "COMPLETED"
    await wait_until(gone(process), timeout=30, what="the end of their connections")
    print(f"{count} sockets: {cost / 1024:.1f} KiB each, {during / 1024:.1f} KiB at their end")
    return max(cost, during) / 1024


async def patient_code(reader: Socket) -> int | None:
    """Return the close code, however long nothing comes."""
    while True:
        try:
            return await reader.code()
        except TimeoutError:
            continue


async def test_200_sockets_on_one_process(own_api: tuple[Service, psutil.Process], stagings: list[Staging]) -> None:
    assert await many_sockets(own_api, stagings, count=200) < 150


@pytest.mark.slow
async def test_2000_sockets_on_one_process(own_api: tuple[Service, psutil.Process], stagings: list[Staging]) -> None:
    assert await many_sockets(own_api, stagings, count=2000) < 100
