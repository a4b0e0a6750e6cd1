"""Live updates over two API processes behind nginx: what is submitted through one is followed on the other."""

import asyncio
import itertools
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack

import httpx
import psutil
import pytest
from redis.asyncio import Redis

from tests.api.sockets import Socket, opened
from tests.api.streaming import streaming
from tests.live.conftest import Cluster, reached_at, started_api
from tests.support.service import Service


async def submitted(client: httpx.AsyncClient, **order: object) -> str:
    """Submit a task; return its id."""
    answer = await client.post("/v1/workload", json=order)
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


async def watching(stack: AsyncExitStack, service: Service, task_ids: Iterable[str], token: str) -> list[Socket]:
    """Open a socket on each task, and read its first state."""
    sockets = []
    for task_id in task_ids:
        sockets.append(await stack.enter_async_context(opened(service, task_id, token)))
        await sockets[-1].next()
    return sockets


def assert_followed_to_the_end(sockets: list[Socket]) -> None:
    """No state older than one that was seen before, and the end last."""
    for socket in sockets:
        seqs = [one["seq"] for one in socket.tasks]
        assert seqs == sorted(set(seqs))
        assert socket.tasks[-1]["status"] == "COMPLETED"


async def test_what_is_submitted_through_one_process_is_followed_on_the_other(
    cluster: Cluster, alice: httpx.AsyncClient, subject: str
) -> None:
    token = cluster.service.token(subject)
    task_id = await submitted(alice, action="sleep", seconds=3, steps=6)
    headers = {"Authorization": f"Bearer {token}"}
    async with AsyncExitStack() as stack:
        sockets = await watching(stack, cluster.watched, [task_id] * 20, token)
        every = await stack.enter_async_context(opened(cluster.watched, None, token))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=cluster.front.url, headers=headers, timeout=60)
        )
        stream = await stack.enter_async_context(streaming(client, task_id))
        poll = asyncio.create_task(client.get(f"/v1/workload/status/{task_id}", headers={"Prefer": "wait=50"}))
        assert set(await asyncio.gather(*(socket.code() for socket in sockets))) == {1000}
        messages = await stream.rest()
        while (await every.next())["task"]["status"] != "COMPLETED":
            pass
        ended = (await poll).json()
    assert_followed_to_the_end(sockets)
    assert len({one["progress"] for one in sockets[0].tasks}) >= 3
    assert ended == messages[-1].data == every.tasks[-1] == sockets[0].tasks[-1]


async def restart_while_watched(cluster: Cluster, alice: httpx.AsyncClient, subject: str, *, count: int) -> None:
    """Restart Redis under sockets on running and on waiting tasks."""
    token, number = cluster.service.token(subject), itertools.count()
    tasks = [await submitted(alice, action="sleep", seconds=8 + count / 100, steps=20) for _ in range(5)]
    tasks += [await submitted(alice, action="noop", id=next(number), delay_seconds=6 + count / 100) for _ in range(5)]
    async with AsyncExitStack() as stack:
        watched = itertools.islice(itertools.cycle(tasks), count)
        sockets = await watching(stack, reached_at(cluster.service, cluster.service.base_url), watched, token)
        await asyncio.to_thread(cluster.redis.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(cluster.redis.start)
        async with asyncio.timeout(90):
            codes = await asyncio.gather(*(patient_code(socket) for socket in sockets))
    assert set(codes) == {1000}
    assert_followed_to_the_end(sockets)


async def patient_code(socket: Socket) -> int | None:
    """Return the close code, however long nothing comes."""
    while True:
        try:
            return await socket.code()
        except TimeoutError:
            continue


async def test_redis_is_restarted_while_sockets_watch(cluster: Cluster, alice: httpx.AsyncClient, subject: str) -> None:
    await restart_while_watched(cluster, alice, subject, count=60)


@pytest.mark.slow
async def test_redis_is_restarted_while_500_sockets_watch(
    cluster: Cluster, alice: httpx.AsyncClient, subject: str
) -> None:
    await restart_while_watched(cluster, alice, subject, count=500)


async def test_the_end_arrives_although_redis_was_emptied(
    cluster: Cluster, alice: httpx.AsyncClient, subject: str
) -> None:
    """Of a running task, which its worker brings back, and of a waiting one, which its message does."""
    token = cluster.service.token(subject)
    running = await submitted(alice, action="sleep", seconds=5, steps=10)
    waiting = await submitted(alice, action="noop", id=1, delay_seconds=4)
    async with AsyncExitStack() as stack:
        sockets = await watching(stack, cluster.watched, [running, waiting], token)
        every = await stack.enter_async_context(opened(cluster.watched, None, token))
        while sockets[0].tasks[-1]["status"] != "PROCESSING":
            await sockets[0].next()
        async with Redis.from_url(cluster.redis.url) as operator:
            await operator.flushall()
        assert await asyncio.gather(*(patient_code(socket) for socket in sockets)) == [1000, 1000]
        ended: set[str] = set()
        async with asyncio.timeout(60):
            while ended != {running, waiting}:
                message = await every.next()
                if message["type"] == "status" and message["task"]["status"] == "COMPLETED":
                    ended.add(message["task"]["task_id"])
    assert_followed_to_the_end(sockets)


async def test_a_process_that_stops_sends_everybody_elsewhere(
    cluster: Cluster, alice: httpx.AsyncClient, subject: str
) -> None:
    """1012 for sockets, an end for streams, the state as it is for long polls; the process stops at once."""
    service = cluster.service
    task_id, token = await submitted(alice, action="noop", id=1, delay_seconds=60), service.token(subject)
    process, url = await started_api(service)
    async with (
        httpx.AsyncClient(base_url=url, headers=alice.headers, timeout=60) as client,
        opened(reached_at(service, url), task_id, token) as socket,
        streaming(client, task_id) as stream,
    ):
        await socket.next()
        await stream.next()
        poll = asyncio.create_task(client.get(f"/v1/workload/status/{task_id}", headers={"Prefer": "wait=50"}))
        await asyncio.sleep(0.3)
        psutil.Process(process.pid).send_signal(signal.SIGTERM)
        assert await socket.code() == 1012
        assert len(await stream.rest()) == 1
        answer = await poll
        assert (answer.status_code, answer.json()["status"]) == (200, "PENDING")
    await alice.post(f"/v1/workload/{task_id}/cancel")
