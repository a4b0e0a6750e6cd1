"""With a server away: refusals come at once and name it, nothing is accepted, and afterwards all goes on."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest

from app.domain.task import Owner
from app.service.submission import derived_task_id
from stack.ports import free_port
from stack.servers import RabbitServer, RedisServer
from tests.api.problems import problem_of
from tests.api.sockets import opened
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

NOOP: dict[str, Any] = {"action": "noop", "id": 1}
AT_ONCE = 1.5


@pytest.fixture(scope="module")
def own_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ that may be broken."""
    server = RabbitServer(tmp_path_factory.mktemp("own-rabbit"), free_port(3), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def fragile(
    own_redis: RedisServer, own_rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service on these two; every test leaves it whole."""
    async with running_service(own_redis, own_rabbit, tmp_path_factory.mktemp("fragile")) as service:
        yield service


@pytest.fixture
async def caller(fragile: Service, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with fragile.client(subject) as client:
        yield client


async def readiness(client: httpx.AsyncClient) -> dict[str, str]:
    """Return what /readyz says of each dependency; its status must fit, and the process must live."""
    assert (await client.get("/healthz")).status_code == 200
    answer = await client.get("/readyz")
    dependencies: dict[str, str] = answer.json()["dependencies"]
    whole = set(dependencies.values()) == {"ok"}
    assert answer.status_code == (200 if whole else 503)
    assert answer.json()["status"] == ("ok" if whole else "unavailable")
    return dependencies


async def until_ready(client: httpx.AsyncClient) -> None:
    """Wait until both dependencies can be used."""

    async def ready() -> bool:
        return set((await readiness(client)).values()) == {"ok"}

    await wait_until(ready, timeout=30, what="the readiness")


async def quickly(awaiting: Any) -> httpx.Response:
    """Return an answer that must come at once."""
    began = time.monotonic()
    answer: httpx.Response = await awaiting
    assert time.monotonic() - began < AT_ONCE, answer.text
    return answer


async def submit(client: httpx.AsyncClient, key: str) -> httpx.Response:
    """Submit under a key."""
    return await client.post("/v1/workload", json=NOOP, headers={"Idempotency-Key": key})


async def submitted(client: httpx.AsyncClient, key: str) -> dict[str, Any]:
    """Submit under a key, again for as long as Redis is too young for one, and return the document."""

    async def accepted() -> dict[str, Any] | None:
        answer = await submit(client, key)
        assert "idempotent-replayed" not in answer.headers
        document: dict[str, Any] = answer.json()
        return document if answer.status_code == 202 else None

    document = await wait_until(accepted, what="the service's taking a keyed task")
    assert document
    return document


def id_of(service: Service, subject: str, key: str) -> UUID:
    """Return the id that a key stands for: also of what was refused."""
    return derived_task_id(Owner(service.settings.jwt.issuer, subject), key)


async def test_without_a_broker_nothing_is_accepted_and_it_is_said_at_once(
    fragile: Service, own_rabbit: RabbitServer, caller: httpx.AsyncClient, subject: str
) -> None:
    await until_ready(caller)
    before = await submitted(caller, "before")
    await fragile.ended(caller, before["task_id"])
    await asyncio.to_thread(own_rabbit.kill)
    try:

        async def noticed() -> bool:
            return await readiness(caller) == {"redis": "ok", "rabbitmq": "unavailable", "archive": "ok"}

        await wait_until(noticed, what="the loss of RabbitMQ")
        answers = await asyncio.gather(*(quickly(submit(caller, f"k{number}")) for number in range(10)))
        for answer in answers:
            problem_of(answer, "broker-unavailable")
        # What was refused is nowhere; what was there can still be read, and a replay needs no broker.
        assert [task["task_id"] for task in (await caller.get("/v1/workload")).json()["items"]] == [before["task_id"]]
        problem_of(await caller.get(f"/v1/workload/status/{id_of(fragile, subject, 'k0')}"), "not-found")
        assert (await submit(caller, "before")).headers["idempotent-replayed"] == "true"
    finally:
        await asyncio.to_thread(own_rabbit.start)
    await until_ready(caller)
    # The same key is a new submission of the same task.
    again = await submit(caller, "k0")
    assert again.status_code == 202, again.text
    assert "idempotent-replayed" not in again.headers
    assert again.json()["task_id"] == str(id_of(fragile, subject, "k0"))
    assert (await fragile.ended(caller, again.json()["task_id"]))["status"] == "COMPLETED"
    assert len((await caller.get("/v1/workload")).json()["items"]) == 2


async def test_a_broker_in_alarm_takes_nothing_and_what_it_refused_never_runs(
    fragile: Service, own_rabbit: RabbitServer, caller: httpx.AsyncClient, subject: str
) -> None:
    """The first publish only tells that there is an alarm: its message is in the broker's hands, and must not run."""
    await until_ready(caller)
    await submitted(caller, "before")  # Redis may have been restarted by another test, and be too young for a key
    await asyncio.to_thread(own_rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1")
    refused: list[tuple[str, int]] = []
    try:

        async def blocked() -> bool:
            key = f"k{len(refused)}"
            answer = await submit(caller, key)
            if answer.status_code == 202:  # the alarm was not up yet
                await fragile.ended(caller, answer.json()["task_id"])
            else:
                problem_of(answer, "broker-unavailable")
            refused.append((key, answer.status_code))
            return answer.status_code == 503

        await wait_until(blocked, what="the first refusal")
        for number in range(5):
            problem_of(await quickly(submit(caller, f"later{number}")), "broker-unavailable")
            refused.append((f"later{number}", 503))
        assert (await readiness(caller))["rabbitmq"] == "unavailable"
    finally:
        await asyncio.to_thread(own_rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")
    await until_ready(caller)
    # Queues are first in, first out: once a later task has ended, whatever was stuck has been delivered.
    marker = await submitted(caller, "marker")
    await fragile.ended(caller, marker["task_id"])
    for key, status in refused:
        if status == 503:
            task_id = str(id_of(fragile, subject, key))
            lines = [line for line in fragile.worker_log.splitlines() if task_id in line]
            assert not any("started" in line or "ended" in line for line in lines), lines
            problem_of(await caller.get(f"/v1/workload/status/{task_id}"), "not-found")


async def test_without_redis_nothing_is_accepted_and_it_is_said_at_once(
    fragile: Service, own_redis: RedisServer, caller: httpx.AsyncClient, subject: str
) -> None:
    await until_ready(caller)
    task = await submitted(caller, "before")
    await fragile.ended(caller, task["task_id"])
    async with opened(fragile, task["task_id"], fragile.token(subject)) as socket:
        assert await socket.code() == 1000  # there is a subscription connection now, and nobody who listens
    await asyncio.to_thread(own_redis.kill)
    try:
        problem_of(await quickly(submit(caller, "k")), "store-unavailable")
        for path in (task["links"]["self"]["href"], "/v1/workload", f"/v1/workload/{task['task_id']}/result"):
            problem_of(await quickly(caller.get(path)), "store-unavailable")
        async with opened(fragile, task["task_id"], fragile.token(subject)) as socket:
            assert await socket.code() == 1013
        assert (await readiness(caller))["redis"] == "unavailable"
        # What needs no Redis is refused, or served, as ever.
        assert (await caller.get("/v1/actions")).status_code == 200
        problem_of(await caller.post("/v1/workload", json={"action": "nope"}), "validation")
    finally:
        await asyncio.to_thread(own_redis.start)
    await until_ready(caller)
    again = await submitted(caller, "k")
    assert (await fragile.ended(caller, again["task_id"]))["status"] == "COMPLETED"


async def test_a_redis_that_hangs_is_said_to_be_away_and_is_used_again_when_it_goes_on(
    fragile: Service, own_redis: RedisServer, caller: httpx.AsyncClient
) -> None:
    """It takes connections, and answers nobody: each call waits once for an answer, and is not sent again."""
    await until_ready(caller)
    task = await submitted(caller, "k")
    await fragile.ended(caller, task["task_id"])
    redis = psutil.Process(own_redis.pid)
    redis.suspend()
    try:
        # The client waits for 10 s at most; asked three times over, Redis would take up 15 s.
        problem_of(await caller.post("/v1/workload", json=NOOP), "store-unavailable")
        problem_of(await caller.get(task["links"]["self"]["href"]), "store-unavailable")
    finally:
        redis.resume()
    await until_ready(caller)
    again = await submitted(caller, "k2")
    assert (await fragile.ended(caller, again["task_id"]))["status"] == "COMPLETED"


async def test_what_redis_has_acknowledged_outlives_its_death(
    fragile: Service, own_redis: RedisServer, caller: httpx.AsyncClient
) -> None:
    await until_ready(caller)
    task = await submitted(caller, "k")
    ended = await fragile.ended(caller, task["task_id"])
    await asyncio.to_thread(own_redis.kill)
    await asyncio.to_thread(own_redis.start)
    await until_ready(caller)
    assert (await caller.get(task["links"]["self"]["href"])).json() == ended
    assert (await submit(caller, "k")).headers["idempotent-replayed"] == "true"


async def test_a_stream_outlives_a_restart_of_redis(
    fragile: Service, own_redis: RedisServer, caller: httpx.AsyncClient, subject: str
) -> None:
    await until_ready(caller)
    order = {"action": "sleep", "seconds": 2.5, "steps": 25}
    task = (await caller.post("/v1/workload", json=order)).json()
    async with opened(fragile, task["task_id"], fragile.token(subject)) as socket:
        while (await socket.next())["task"]["status"] != "PROCESSING":
            pass
        await asyncio.to_thread(own_redis.stop)
        await asyncio.to_thread(own_redis.start)
        assert await socket.code() == 1000
    assert socket.tasks[-1]["status"] == "COMPLETED"
    seqs = [one["seq"] for one in socket.tasks]
    assert seqs == sorted(set(seqs))
    assert socket.tasks[-1] == (await caller.get(task["links"]["self"]["href"])).json()
