"""The senders of webhooks: a process of their own if need be, and a receiver that hangs delays nobody else."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest

from app.broker.topology import DELAY_LEVELS, WEBHOOK_QUEUE, WORK_EXCHANGE, delay_name
from app.domain.moments import milliseconds
from app.webhooks.message import webhook_id
from stack.servers import RabbitServer, RedisServer
from tests.support.receivers import Received, receiver
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

SLOTS = 8
WAITING = 4
AT_ONCE = 100


@pytest.fixture
async def api(
    own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service without any worker; an attempt at a receiver that hangs lasts longer than these tests."""
    webhooks = {
        "timeout_seconds": 120, "connect_timeout_seconds": 60, "concurrency": AT_ONCE, "host_concurrency": SLOTS,
        "schedule_seconds": [1],
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
        soon = {"LONGHAUL_WEBHOOKS__LATE_AFTER_SECONDS": "1"}
        await service.start_worker(roles=["webhooks", "housekeeping"], environment=soon)  # nobody else wakes it
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
        assert after < max(2 * before, before + 1)


async def put_wake_ups(service: Service, webhook: str, count: int, **headers: int) -> None:
    """Put wake-ups into the senders' queue, as often as it takes."""
    async with (
        await aio_pika.connect(service.settings.amqp_url.get_secret_value()) as connection,
        connection.channel() as channel,
    ):
        exchange = await channel.get_exchange(WORK_EXCHANGE, ensure=False)
        for _ in range(count):
            message = aio_pika.Message(b"", message_id=webhook, headers={"attempt": 1, **headers})
            await exchange.publish(message, WEBHOOK_QUEUE)


async def wake_ups(service: Service) -> dict[str, int]:
    """Return how many wake-ups wait in each queue; those in a sender's hands are not among them."""
    async with (
        await aio_pika.connect(service.settings.amqp_url.get_secret_value()) as connection,
        connection.channel() as channel,
    ):
        names = [WEBHOOK_QUEUE, *map(delay_name, DELAY_LEVELS)]
        queues = [await channel.declare_queue(name, passive=True) for name in names]
        counts = {queue.name: queue.declaration_result.message_count or 0 for queue in queues}
        return {name: count for name, count in counts.items() if count}


async def test_of_many_wake_ups_for_one_webhook_one_is_left(service: Service, subject: str) -> None:
    """While the queue is long, housekeeping may wake what is only slow: the second wake-up must not come for ever."""
    async with service.client(subject) as client, receiver(never) as hanging:
        await service.start_worker(roles=["jobs", "webhooks"])
        tasks = [await submit(client, hanging.url) for _ in range(SLOTS)]
        await _until_it_has(hanging.received, SLOTS)
        tasks += [await submit(client, hanging.url) for _ in range(WAITING)]

        async def put_off() -> bool:
            seen = await wake_ups(service)
            return WEBHOOK_QUEUE not in seen and sum(seen.values()) == WAITING

        await wait_until(put_off, timeout=60, what="four that know when they come again")
        sent = {one.headers["webhook-id"] for one in hanging.received}
        (waiting, *_) = {webhook_id(UUID(task["task_id"]), 1, "completed") for task in tasks} - sent
        await put_wake_ups(service, waiting, 20, not_before=milliseconds(datetime.now(UTC)))

        async def one_each() -> bool:
            for _ in range(20):  # some may be in hand in between
                if sum((await wake_ups(service)).values()) > WAITING:
                    return False
                await asyncio.sleep(0.1)
            return True

        await wait_until(one_each, timeout=60, what="the end of the other wake-ups")


async def test_a_wake_up_that_is_not_due_goes_on_waiting(service: Service) -> None:
    """It says so itself: nobody looks into the archive, which knows nothing of this webhook."""
    await service.start_worker(roles=["webhooks"])
    await put_wake_ups(service, "msg_late", 1, not_before=milliseconds(datetime.now(UTC) + timedelta(hours=2)))

    async def waits() -> bool:
        return await wake_ups(service) == {"delay.3600s": 1}

    await wait_until(waits, timeout=30, what="the wake-up in the longest delay queue")
