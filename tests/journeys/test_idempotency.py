"""One key, one task: whoever races, whatever is lost on the way, and whatever Redis has forgotten."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from app.store.keys import task_key
from stack.servers import RabbitServer
from tests.support.crashing import Sluice, Theatre, theatre
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service whose Redis may be emptied."""
    async with theatre(rabbit_server, tmp_path_factory.mktemp("idempotency"), workers=1) as service:
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    await stage.let_epochs_grow_old()
    async with stage.client(subject) as client:
        yield client


async def ask(client: httpx.AsyncClient, key: str, **work: Any) -> httpx.Response:
    return await client.post("/v1/workload", json={"action": "work", **work}, headers={"Idempotency-Key": key})


async def ask_until_taken(client: httpx.AsyncClient, key: str, **work: Any) -> tuple[httpx.Response, int]:
    """Repeat as a polite client does; return the answer, and how often it was 503 before."""
    refusals = 0
    while (answer := await ask(client, key, **work)).status_code == 503:
        refusals += 1
        await asyncio.sleep(int(answer.headers["retry-after"]))
    return answer, refusals


async def test_a_hundred_racing_requests_with_one_key_make_one_task(
    stage: Theatre, caller: httpx.AsyncClient, subject: str
) -> None:
    """Through two API processes at once: every answer is 202 with one id, and the work is done once."""
    process, url = await stage.api("second-api")
    async with stage.client(subject) as there:
        there.base_url = httpx.URL(url)
        answers = await asyncio.gather(*(ask([caller, there][n % 2], "race") for n in range(100)))
        assert {answer.status_code for answer in answers} == {202}
        (task_id,) = {answer.json()["task_id"] for answer in answers}
        assert (await stage.ended(caller, task_id))["attempt"] == 1
        listed = (await caller.get("/v1/workload")).json()["items"]
    process.end(patience=5)
    assert [task["task_id"] for task in listed] == [task_id]

    async def drained() -> bool:
        return await stage.ready("work") == 0

    await wait_until(drained, what="the end of every racing message")
    assert stage.rows(task_id) == [(1, "COMPLETED")]
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}


async def test_a_lost_answer_is_asked_for_again(stage: Theatre, caller: httpx.AsyncClient, subject: str) -> None:
    """The client is gone before the answer; its repetition gets the task that it made, or makes it."""
    body = json.dumps({"action": "work"})
    where = urlsplit(stage.base_url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    lines = [
        "POST /v1/workload HTTP/1.1",
        "Host: test",
        f"Authorization: Bearer {stage.token(subject)}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Idempotency-Key: lost",
    ]
    writer.write("\r\n".join([*lines, "", body]).encode())
    await writer.drain()
    writer.close()

    first, second = await ask(caller, "lost"), await ask(caller, "lost")

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["task_id"] == second.json()["task_id"]
    await stage.ended(caller, first.json()["task_id"])
    assert stage.count_of(first.json()["task_id"]) == {"begun": 1, 0: 1}
    assert len((await caller.get("/v1/workload")).json()["items"]) == 1


async def test_a_key_outlives_all_of_redis(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """After FLUSHALL the same request gets the same task as it is: waiting, running, ended; each runs once.

    While the epoch is young, what Redis does not hold is not made anew: 503 with Retry-After, and then it works.
    """
    orders: dict[str, dict[str, Any]] = {"waiting": {"delay_seconds": 8}, "running": {"seconds": 8}, "ended": {}}
    ids = {key: await stage.submit(caller, key=key, **work) for key, work in orders.items()}
    await stage.ended(caller, ids["ended"])
    await stage.begun(ids["running"])

    await stage.empty_redis()
    answers = dict(
        zip(orders, await asyncio.gather(*(ask_until_taken(caller, key, **orders[key]) for key in orders)), strict=True)
    )

    assert {key: answer.json()["task_id"] for key, (answer, _) in answers.items()} == ids
    statuses = {key: answer.json()["status"] for key, (answer, _) in answers.items()}
    assert statuses == {"waiting": "PENDING", "running": "PROCESSING", "ended": "COMPLETED"}
    assert answers["running"][0].headers["idempotent-replayed"] == "true"
    assert answers["ended"][0].headers["idempotent-replayed"] == "true"
    assert answers["waiting"][1] >= 1
    assert answers["ended"][1] >= 1
    for task_id in ids.values():
        await stage.ended(caller, task_id)
        assert stage.rows(task_id) == [(1, "COMPLETED")]
        assert stage.count_of(task_id) == {"begun": 1, 0: 1}


async def test_a_key_outlives_its_task_in_redis(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Expired in Redis, it is answered from the archive; another body is refused; after DELETE it is gone."""
    task_id = await stage.submit(caller, key="old", steps=2)
    ended = await stage.ended(caller, task_id)
    for lost in (False, True):
        if lost:
            async with stage.operator() as redis:
                await redis.delete(task_key(UUID(task_id)))
        again = await ask(caller, "old", steps=2)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
        shown = again.json()
        assert shown.pop("task_token")
        assert shown == ended
        other = await ask(caller, "old", steps=3)
        assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")

    assert (await caller.delete(f"/v1/workload/{task_id}")).status_code == 204
    assert (await ask(caller, "old", steps=2)).status_code == 410
    async with stage.operator() as redis:
        await redis.delete(task_key(UUID(task_id)))
    assert (await ask(caller, "old", steps=2)).status_code == 410
    assert stage.count_of(task_id) == {"begun": 1, 0: 1, 1: 1}


async def test_a_refused_request_leaves_nothing_under_its_key(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """503 while the broker does not confirm; its late message never runs; the next request is a new submission."""
    async with Sluice(stage.rabbit.port) as sluice:
        url = sluice.url(stage.settings.amqp_url.get_secret_value())
        process, base_url = await stage.api("cut-off-api", LONGHAUL_AMQP_URL=url, LONGHAUL_PUBLISH_TIMEOUT_SECONDS="2")
        healthy, caller.base_url = caller.base_url, httpx.URL(base_url)
        await stage.ended(caller, await stage.submit(caller))  # its channel is open
        sluice.shut()
        refused = await ask(caller, "refused")
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/broker-unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert len((await caller.get("/v1/workload")).json()["items"]) == 1  # the first
        sluice.open()

        async def dropped() -> bool:
            lines = stage.log_of("worker0").splitlines()
            return any("dropped a message" in line and refused.headers["x-request-id"] in line for line in lines)

        await wait_until(dropped, what="the dropping of the late message")
        process.end(patience=5)
        caller.base_url = healthy
        accepted = await ask(caller, "refused")
        assert accepted.status_code == 202
        assert "idempotent-replayed" not in accepted.headers
        task_id = accepted.json()["task_id"]
        assert stage.count_of(task_id)["begun"] <= 1  # by this one
        await stage.ended(caller, task_id)
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}
