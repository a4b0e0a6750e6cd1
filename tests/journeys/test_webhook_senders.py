"""The senders of webhooks: a process of their own if need be, and a receiver that hangs delays nobody else."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from stack.servers import RabbitServer, RedisServer
from tests.support.receivers import Received, receiver
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

SLOTS = 8
AT_ONCE = 100


@pytest.fixture
async def api(
    own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service without any worker; an attempt at a receiver that hangs lasts longer than these tests."""
    webhooks = {
        "timeout_seconds": 120, "connect_timeout_seconds": 60, "concurrency": AT_ONCE, "host_concurrency": SLOTS,
        "late_after_seconds": 1, "schedule_seconds": [1],
    }  # fmt: skip
    async with running_service(
        own_redis, rabbit_server, tmp_path_factory.mktemp("senders"), workers=0, webhooks=webhooks
    ) as running:
        yield running


@pytest.fixture
async def service(api: Service) -> AsyncIterator[Service]:
    """The same, with the workers that the test starts."""
    yield api
    while api.workers:
        api.workers.pop().kill()


async def submit(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """Submit a task with a callback."""
    answer = await client.post("/v1/workload", json={"action": "noop", "id": 1, "callback_url": url})
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def submit_many(client: httpx.AsyncClient, url: str, count: int) -> None:
    """Submit so many, some at a time."""
    slots = asyncio.Semaphore(20)

    async def one() -> None:
        async with slots:
            await submit(client, url)

    await asyncio.gather(*[one() for _ in range(count)])


async def never(_: Received) -> tuple[int, dict[str, str]]:
    """Hang."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_sender_runs_alone(service: Service, subject: str) -> None:
    """Jobs end without one, and it sends without jobs."""
    async with service.client(subject) as client, receiver() as hook:
        jobs = await service.start_worker(roles=["jobs", "housekeeping"])
        task = await submit(client, hook.url)
        ended = await service.ended(client, task["task_id"])
        assert (ended["webhook"]["state"], ended["webhook"]["attempts"]) == ("due", 0)
        service.workers.remove(jobs)
        jobs.end(patience=15)
        assert hook.connections == 0

        sender = await service.start_worker(roles=["webhooks"])
        await _until_it_has(hook.received, 1)
        waiting = await submit(client, hook.url)
        sender.end(patience=15)
        service.workers.remove(sender)
        assert (await client.get(f"/v1/workload/status/{waiting['task_id']}")).json()["status"] == "PENDING"


async def test_an_end_is_shown_before_it_is_told(service: Service, subject: str) -> None:
    """A worker that dies right after the row: whoever is told finds the same in the status."""
    shown: list[str] = []
    async with service.client(subject) as client, receiver() as hook:
        dying = await service.start_worker(roles=["jobs"], environment={"CRASH": "after_row"})
        task = await submit(client, hook.url)

        async def dead() -> bool:
            return not dying.is_running

        await wait_until(dead, timeout=30, what="the worker's death")
        status = (await client.get(f"/v1/workload/status/{task['task_id']}")).json()["status"]
        assert status == "PROCESSING"

        async def look(_: Received) -> tuple[int, dict[str, str]]:
            shown.append((await client.get(f"/v1/workload/status/{task['task_id']}")).json()["status"])
            return 200, {}

        hook.answer = look
        await service.start_worker(roles=["webhooks", "housekeeping"])  # which wakes it, as nobody else has
        await _until_it_has(hook.received, 1)
        await _until_it_has(shown, 1)
        assert shown == ["COMPLETED"]


async def _until_it_has(these: list[Any], count: int, *, timeout: float = 60) -> None:
    async def has() -> bool:
        return len(these) >= count

    await wait_until(has, timeout=timeout, what=f"{count} of them")


def lateness(received: list[Received]) -> list[float]:
    """Return, for each, how long after its task's end it came; seconds, the least first."""
    return sorted(one.at - _timestamp(one) for one in received)


def _timestamp(one: Received) -> float:
    return datetime.fromisoformat(httpx.Response(200, content=one.body).json()["timestamp"]).timestamp()


@pytest.mark.parametrize("waiting", [150, pytest.param(1000, marks=pytest.mark.slow)])
async def test_a_receiver_that_hangs_delays_nobody_else(waiting: int, service: Service, subject: str) -> None:
    """However many wait for it, it holds its few slots, and the others' webhooks go by."""
    async with service.client(subject) as client, receiver(never) as hanging, receiver() as hook:
        await service.start_worker()
        await submit_many(client, hook.url, 30)
        await _until_it_has(hook.received, 30)
        before = lateness(hook.received)[28]
        hook.received.clear()

        await submit_many(client, hanging.url, waiting)

        async def full() -> bool:
            return len(hanging.received) == SLOTS

        await wait_until(full, timeout=60, what="the hanging receiver's slots")
        await submit_many(client, hook.url, 30)
        await _until_it_has(hook.received, 30)
        after = lateness(hook.received)[28]
        print(f"p95 before {before * 1000:.0f} ms, after {after * 1000:.0f} ms")
        assert hanging.connections == SLOTS  # none of them was given up meanwhile
        assert after < before + 10
