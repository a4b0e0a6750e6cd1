"""Limits at the door: how much a caller may submit, how much of it may be under way, and how much a queue takes."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
from redis.asyncio import Redis
from websockets.exceptions import ConnectionClosed

from app.domain.task import Owner
from app.store.keys import owner_active_key, owner_id, task_key
from stack.ports import free_port
from stack.servers import RabbitServer, RedisServer
from tests.api.problems import problem_of
from tests.api.sockets import opened
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

NOOP: dict[str, Any] = {"action": "noop", "id": 1}
REPORT: dict[str, Any] = {"action": "generate_report", "id": 1024}
RATE, QUOTA, DEPTH = 12, 5, 3
RATE_LIMIT = re.compile(r'"submit";r=(\d+);t=(\d+)')


@pytest.fixture(scope="module")
async def strict(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service with small limits whose tasks wait for ever: nobody works."""
    directory: Path = tmp_path_factory.mktemp("strict")
    redis, port = RedisServer(directory / "redis", free_port(), die_with_parent=True), free_port()
    redis.start()
    try:
        async with running_service(
            redis,
            rabbit_server,
            directory / "service",
            workers=0,
            rate_limits={"submissions": RATE, "window_seconds": 3600, "active_tasks": QUOTA},
            api={"port": port, "shutdown_seconds": 2, "max_watchers": 3, "max_watchers_per_owner": 2},
            public_url=f"http://127.0.0.1:{port}",
            queues={"report_gen": {"depth_limit": DEPTH}, "transform": {}, "bench": {}},
        ) as service:
            yield service
    finally:
        redis.stop()


@pytest.fixture
async def caller(strict: Service, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with strict.client(subject) as client:
        yield client


@pytest.fixture
async def strict_redis(strict: Service) -> AsyncIterator[Redis]:
    """Its Redis."""
    async with Redis.from_url(strict.settings.redis_url.get_secret_value()) as client:
        yield client


async def submit(client: httpx.AsyncClient, key: str | None = None, body: dict[str, Any] = NOOP) -> httpx.Response:
    return await client.post("/v1/workload", json=body, headers={"Idempotency-Key": key} if key else {})


def rate_of(answer: httpx.Response) -> tuple[int, int]:
    """Return what an answer tells of the rate: units left, and seconds until one more."""
    assert answer.headers["ratelimit-policy"] == f'"submit";q={RATE};w=3600'
    told = RATE_LIMIT.fullmatch(answer.headers["ratelimit"])
    assert told, answer.headers["ratelimit"]
    return int(told[1]), int(told[2])


def refused(answer: httpx.Response, slug: str) -> dict[str, Any]:
    """Hold a refusal against the contract: the body's `retry_after` is the header's, never earlier than `t`."""
    problem = problem_of(answer, slug)
    assert str(problem["retry_after"]) == answer.headers["retry-after"]
    assert problem["retry_after"] >= 1
    if slug != "queue-full":
        assert problem["retry_after"] >= rate_of(answer)[1]
    return problem


async def number_of_tasks(client: httpx.AsyncClient) -> int:
    return len((await client.get("/v1/workload", params={"limit": 200})).json()["items"])


async def cancel(client: httpx.AsyncClient, answer: httpx.Response) -> None:
    assert (await client.post(f"/v1/workload/{answer.json()['task_id']}/cancel")).status_code == 202


async def test_a_burst_gets_no_more_than_the_quota_and_no_more_than_the_rate(caller: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(submit(caller) for _ in range(40)))
    by_status = {
        slug: [answer for answer in answers if answer.status_code == status and slug in answer.text]
        for status, slug in ((202, "task_token"), (429, "quota-exceeded"), (429, "rate-limited"))
    }
    assert [len(found) for found in by_status.values()] == [QUOTA, RATE - QUOTA, 40 - RATE]
    assert sorted(rate_of(answer)[0] for answer in by_status["task_token"] + by_status["quota-exceeded"]) == [
        *range(RATE)
    ]
    for slug in ("quota-exceeded", "rate-limited"):
        for answer in by_status[slug]:
            refused(answer, slug)
    assert {rate_of(answer)[0] for answer in by_status["rate-limited"]} == {0}
    assert await number_of_tasks(caller) == QUOTA, "what was refused left nothing"


async def test_one_callers_flood_is_nobody_elses(strict: Service, caller: httpx.AsyncClient, subject: str) -> None:
    await asyncio.gather(*(submit(caller) for _ in range(20)))
    async with strict.client(f"not-{subject}") as other:
        assert (await submit(other)).status_code == 202


async def test_a_task_that_has_ended_makes_room_before_its_end_is_seen(caller: httpx.AsyncClient) -> None:
    accepted = [await submit(caller) for _ in range(QUOTA)]
    refused(await submit(caller), "quota-exceeded")
    await cancel(caller, accepted[0])
    assert (await submit(caller)).status_code == 202
    refused(await submit(caller), "quota-exceeded")


async def test_a_replay_takes_a_unit_of_rate_and_no_quota(caller: httpx.AsyncClient) -> None:
    first = await submit(caller, "one")
    for _ in range(QUOTA - 1):
        await submit(caller)
    again = await submit(caller, "one")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.json()["task_id"] == first.json()["task_id"]
    assert rate_of(again)[0] == RATE - QUOTA - 1
    await cancel(caller, first)
    assert (await submit(caller)).status_code == 202, "the ended one's place"
    assert (await submit(caller, "one")).headers["idempotent-replayed"] == "true", "over the quota, and it has ended"
    refused(await submit(caller, "two"), "quota-exceeded")


async def test_a_known_key_is_answered_before_any_limit(caller: httpx.AsyncClient) -> None:
    """The order of refusals: a known key's replay or 422 stands before 429."""
    first = await submit(caller, "known")
    gone = await submit(caller, "gone")
    await cancel(caller, gone)
    assert (await caller.delete(f"/v1/workload/{gone.json()['task_id']}")).status_code == 204
    await asyncio.gather(*(submit(caller) for _ in range(RATE)))
    refused(await submit(caller), "rate-limited")
    refused(await submit(caller, "unknown"), "rate-limited")
    again = await submit(caller, "known")
    assert (again.status_code, again.json()["task_id"]) == (202, first.json()["task_id"])
    problem_of(await submit(caller, "known", {**NOOP, "id": 2}), "idempotency-key-reused")
    problem_of(await submit(caller, "gone"), "gone")
    answer = await caller.post("/v1/workload", json={"action": "noop"})
    problem_of(answer, "validation")
    assert "ratelimit" not in answer.headers, "what is no submission takes nothing"


async def test_a_refused_key_is_as_good_as_new(caller: httpx.AsyncClient) -> None:
    accepted = [await submit(caller) for _ in range(QUOTA)]
    refused(await submit(caller, "later"), "quota-exceeded")
    await cancel(caller, accepted[0])
    answer = await submit(caller, "later", {**NOOP, "id": 7})  # another body: nothing was left under the key
    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers


async def test_an_old_key_whose_task_redis_has_forgotten_takes_no_quota(
    caller: httpx.AsyncClient, strict_redis: Redis, strict: Service, subject: str
) -> None:
    """Its end comes from the archive, and its place is given back."""
    first = await submit(caller, "old")
    await cancel(caller, first)
    await strict_redis.delete(task_key(UUID(first.json()["task_id"])))
    assert (await submit(caller, "old")).json()["status"] == "CANCELLED"
    active = owner_active_key(owner_id(Owner(strict.settings.jwt.issuer, subject)))
    assert await strict_redis.zcard(active) == 0


async def test_a_full_queue_takes_nothing_more_until_it_has_room(
    strict: Service, caller: httpx.AsyncClient, strict_redis: Redis, subject: str
) -> None:
    first = await submit(caller, "first", REPORT)
    answers = await asyncio.gather(*(submit(caller, None, REPORT) for _ in range(QUOTA - 1)))
    assert sorted(answer.status_code for answer in answers) == [202] * (DEPTH - 1) + [503] * (QUOTA - DEPTH)
    for answer in answers:
        if answer.status_code == 503:
            refused(answer, "queue-full")
    active = owner_active_key(owner_id(Owner(strict.settings.jwt.issuer, subject)))
    assert await strict_redis.zcard(active) == await number_of_tasks(caller) == DEPTH, "the refused left nothing"
    again = await submit(caller, "first", REPORT)
    assert (again.status_code, again.json()["task_id"]) == (202, first.json()["task_id"]), "a replay needs no room"
    assert (await submit(caller)).status_code == 202, "other queues are not full"

    async with (
        await aio_pika.connect(strict.settings.amqp_url.get_secret_value()) as connection,
        connection.channel() as channel,
    ):
        await (await channel.get_queue("report_gen")).purge()

    attempts = itertools.count()

    async def taken() -> bool:
        async with strict.client(f"{subject}-{next(attempts)}") as other:
            return (await submit(other, None, REPORT)).status_code == 202

    await wait_until(taken, what="room in the queue")


async def test_so_many_sockets_of_one_caller_and_so_many_in_all(
    strict: Service, caller: httpx.AsyncClient, subject: str
) -> None:
    task_id = (await submit(caller)).json()["task_id"]
    mine = strict.token(subject)
    async with strict.client(f"not-{subject}") as other_client:
        other_id = (await submit(other_client)).json()["task_id"]
    others = strict.token(f"not-{subject}")
    async with opened(strict, task_id, mine) as first, opened(strict, task_id, mine) as second:
        await first.next()
        await second.next()
        async with opened(strict, task_id, mine) as third:
            assert await third.code() == 1013
        async with opened(strict, other_id, others) as fourth:
            await fourth.next()
            async with opened(strict, other_id, others) as fifth:
                assert await fifth.code() == 1013, "the process has no place left"

    async def is_free() -> bool:
        async with opened(strict, task_id, mine) as socket:
            try:
                return bool(await socket.next())
            except ConnectionClosed:
                return False

    await wait_until(is_free, what="a free place")


async def test_the_queues_own_limit_stands_at_twice_the_depth(strict: Service, rabbit_server: RabbitServer) -> None:
    vhost = strict.settings.amqp_url.get_secret_value().rpartition("/")[2]
    listed = await asyncio.to_thread(
        rabbit_server.ctl, "list_queues", "-p", vhost, "--no-table-headers", "name", "arguments"
    )
    (queue,) = (line for line in listed.splitlines() if line.startswith("report_gen\t"))
    assert f'{{"x-max-length",{2 * DEPTH}}}' in queue
    assert '{"x-overflow","reject-publish"}' in queue
