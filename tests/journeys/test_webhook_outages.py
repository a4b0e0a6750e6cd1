"""A webhook whose receiver fails while worker, API and broker die: only the times are others."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from stack.ports import free_port
from stack.servers import RabbitServer, RedisServer
from tests.journeys.test_webhooks import arrived, attempts_at, check, secret_of, submit, webhook_of
from tests.support.receivers import Received, receiver
from tests.support.service import Service, running_service

STEP = 3.0
"""Seconds between two attempts: each process is killed in this time, after the attempt is recorded."""


@pytest.fixture
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitServer]:
    """A RabbitMQ of this test's own, to be killed."""
    server = RabbitServer(tmp_path_factory.mktemp("killed-rabbit"), free_port(3), die_with_parent=True)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def service(
    own_redis: RedisServer, broker: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service that waits the same time before each attempt."""
    webhooks = {"schedule_seconds": [STEP] * 5, "late_after_seconds": 2}
    directory = tmp_path_factory.mktemp("webhook-outages")
    async with running_service(own_redis, broker, directory, webhooks=webhooks) as running:
        yield running


@pytest.mark.slow
async def test_five_failures_and_a_kill_of_everybody_are_six_attempts_under_one_id(
    service: Service, broker: RabbitServer, subject: str
) -> None:
    def answer(_: Received) -> tuple[int, dict[str, str]]:
        return (500 if len(hook.received) < 6 else 200), {}

    async with service.client(subject) as client, receiver(answer) as hook:
        task_id = (await submit(client, hook.url))["task_id"]
        await attempts_at(client, task_id, 1)
        service.workers.pop().kill()
        await service.start_worker()
        await attempts_at(client, task_id, 2)
        service.apis.pop().kill()
        await arrived(hook.received, 3)  # nobody needs the API for it
        await service.start_api()
        await attempts_at(client, task_id, 3)
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(2 * STEP)  # the next one is due, and nobody can carry the word
        await asyncio.to_thread(broker.start)
        await arrived(hook.received, 6)

        assert await webhook_of(client, task_id, "delivered") == {"state": "delivered", "attempts": 6}
        secret = await secret_of(client)
        assert {check(request, secret)["task_id"] for request in hook.received} == {task_id}
        assert len({request.headers["webhook-id"] for request in hook.received}) == 1
        assert len({request.body for request in hook.received}) == 1
        assert len(hook.received) == 6
        assert all(later.at - earlier.at > 0.8 * STEP for earlier, later in pairwise(hook.received))
        attempts = (await client.get(f"/v1/workload/{task_id}/deliveries")).json()["items"]
        assert [one["outcome"] for one in reversed(attempts)] == ["refused"] * 5 + ["delivered"]
