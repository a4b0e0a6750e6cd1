"""WebSocket: the task as it is, then every newer state, then the end."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn

from app.main import create_app
from app.service import watching
from stack.ports import free_port
from tests.api.sockets import opened
from tests.api.staging import Staging
from tests.support.service import Service
from tests.support.waiting import wait_until


async def test_a_task_is_followed_from_its_state_to_its_end(
    service: Service, alice: httpx.AsyncClient, subject: str
) -> None:
    task = (await alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.6, "steps": 6})).json()
    async with opened(service, task["task_id"], service.token(subject)) as socket:
        assert await socket.code() == 1000
        assert re.fullmatch(r"[0-9a-f]{32}", socket.connection.response.headers["X-Request-ID"])  # type: ignore[union-attr]
    tasks = socket.tasks
    assert {message["type"] for message in socket.messages} == {"status"}
    assert all(message.keys() == {"type", "task"} for message in socket.messages)
    assert tasks[-1]["status"] == "COMPLETED"
    assert len({one["progress"] for one in tasks}) >= 3
    seqs = [one["seq"] for one in tasks]
    assert seqs == sorted(set(seqs))
    assert [one["progress"] for one in tasks] == sorted(one["progress"] for one in tasks)
    assert tasks[-1] == (await alice.get(task["links"]["self"]["href"])).json()


async def test_the_first_message_is_the_task_as_it_is(service: Service, subject: str, staging: Staging) -> None:
    """Before anything happens to it, and although nothing may."""
    task_id = await staging.pending(labels=("a",))
    async with opened(service, task_id, service.token(subject)) as socket:
        first = await socket.next()
        assert (first["task"]["status"], first["task"]["labels"]) == ("PENDING", ["a"])


async def test_an_ended_task_is_told_once(service: Service, subject: str, staging: Staging) -> None:
    for task_id, status in ((await staging.completed(b"x"), "COMPLETED"), (await staging.failed(), "FAILED")):
        async with opened(service, task_id, service.token(subject)) as socket:
            assert await socket.code() == 1000
        assert [one["status"] for one in socket.tasks] == [status]


async def test_another_task_of_the_same_caller_is_not_told(service: Service, subject: str, staging: Staging) -> None:
    watched, token = await staging.processing()
    other, other_token = await staging.processing()
    async with opened(service, watched, service.token(subject)) as socket:
        await socket.next()
        await staging.store.beat(other, 1, other_token, progress=50, message=None)
        await staging.store.beat(watched, 1, token, progress=10, message=None)
        assert (await socket.next())["task"]["progress"] == 10
    assert {one["task_id"] for one in socket.tasks} == {str(watched)}


async def test_a_slow_reader_gets_the_newest_state_and_no_backlog(
    service: Service, subject: str, staging: Staging
) -> None:
    task_id, token = await staging.processing()
    async with opened(service, task_id, service.token(subject)) as socket:
        await socket.next()
        for progress in range(1, 100):
            await staging.store.beat(task_id, 1, token, progress=progress, message="x" * 10_000)
        while (await socket.next())["task"]["progress"] < 99:
            pass
    seqs = [one["seq"] for one in socket.tasks]
    assert seqs == sorted(set(seqs))


async def test_many_sockets_on_one_task_all_see_its_end(
    service: Service, alice: httpx.AsyncClient, subject: str
) -> None:
    task = (await alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.8, "steps": 4})).json()
    async with AsyncExitStack() as stack:
        token = service.token(subject)
        sockets = [await stack.enter_async_context(opened(service, task["task_id"], token)) for _ in range(50)]
        codes = await asyncio.gather(*(socket.code() for socket in sockets))
    assert set(codes) == {1000}
    assert all(socket.tasks[-1]["status"] == "COMPLETED" for socket in sockets)


async def test_whoever_leaves_disturbs_nobody(service: Service, subject: str, staging: Staging) -> None:
    task_id, token = await staging.processing()
    async with opened(service, task_id, service.token(subject)) as staying:
        await staying.next()
        async with opened(service, task_id, service.token(subject)) as leaving:
            await leaving.next()
        await staging.store.beat(task_id, 1, token, progress=33, message=None)
        assert (await staying.next())["task"]["progress"] == 33


async def test_what_a_client_says_is_ignored(service: Service, subject: str, staging: Staging) -> None:
    task_id, token = await staging.processing()
    async with opened(service, task_id, service.token(subject)) as socket:
        await socket.next()
        for said in ("hello", "{}", b"\x00\xff", json.dumps({"type": "cancel"}), "", "x" * 4096):
            await socket.connection.send(said)
        await staging.store.beat(task_id, 1, token, progress=5, message=None)
        assert (await socket.next())["task"]["progress"] == 5


@pytest.mark.parametrize("said", ["x" * 4097, b"x" * 100_000])
async def test_a_message_over_4_kib_ends_the_socket(
    said: str | bytes, service: Service, subject: str, staging: Staging
) -> None:
    task_id = await staging.pending()
    async with opened(service, task_id, service.token(subject)) as socket:
        await socket.next()
        await socket.connection.send(said)
        assert await socket.code() == 1009


async def test_a_quiet_socket_and_a_quiet_stream_are_pinged(
    service: Service, subject: str, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 15 s; here, in an API of this process, more often."""
    monkeypatch.setattr(watching, "HEARTBEAT_SECONDS", 0.05)
    port = free_port()
    config = uvicorn.Config(
        create_app(service.settings), port=port, ws="websockets-sansio", lifespan="on", log_config=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    try:
        await wait_until(started, what="the API")
        here = Service.__new__(Service)
        here.base_url = f"http://127.0.0.1:{port}"
        task_id, token = await staging.pending(), service.token(subject)
        async with opened(here, task_id, token) as socket:
            await socket.next()
            ping = await socket.next()
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            asyncio.timeout(10),
            httpx.AsyncClient(base_url=here.base_url, headers=headers) as client,
            client.stream("GET", f"/v1/workload/{task_id}/events") as stream,
        ):
            async for line in stream.aiter_lines():
                if line.startswith(":"):
                    break
            assert line == ": ping"
    finally:
        server.should_exit = True
        await serving
    assert ping.keys() == {"type", "time"}
    assert ping["type"] == "ping"
    told = datetime.fromisoformat(ping["time"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ping["time"])
    assert abs((datetime.now(UTC) - told).total_seconds()) < 10
