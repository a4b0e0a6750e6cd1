"""The main job loses its worker half-way: somebody who polls sees it go on, and gets the same report."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from redis.asyncio import Redis

from app.store.keys import task_key
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.processes import runs
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

LEASE_SECONDS = 3


@pytest.fixture
async def two_workers(own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(
        own_redis, rabbit_server, tmp_path / "service", workers=2, lease_seconds=LEASE_SECONDS
    ) as service:
        yield service


@dataclass
class Poller:
    """Asks for a task's status again and again, as a client does, and keeps every answer."""

    client: httpx.AsyncClient
    task_id: str

    def __post_init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def run(self) -> None:
        while not self.seen or self.seen[-1]["status"] not in ("COMPLETED", "FAILED"):
            self.seen.append((await self.client.get(f"/v1/workload/status/{self.task_id}")).json())
            await asyncio.sleep(0.02)


async def test_a_report_whose_worker_is_killed_goes_on_from_its_checkpoint_in_another(
    two_workers: Service, own_redis: RedisServer, subject: str
) -> None:
    """SIGKILL at 30 %: taken over within the lease and five seconds, the child is gone, and nothing ever falls."""
    async with two_workers.client(subject) as client:
        answer = await client.post("/v1/workload", json={"action": "generate_report", "id": 1024})
        task_id = answer.json()["task_id"]
        poller = Poller(client, task_id)
        polling = asyncio.create_task(poller.run())

        async def at_thirty() -> bool:
            return bool(poller.seen) and poller.seen[-1]["progress"] >= 30

        await wait_until(at_thirty, timeout=30, what="30 %")
        worker = await _worker_of(two_workers, own_redis, task_id)
        (child,) = _titled(task_id)
        worker._child.kill()
        killed = time.monotonic()

        async def child_is_gone() -> bool:
            return not runs(child.pid)

        await wait_until(child_is_gone, timeout=LEASE_SECONDS, what="the end of the killed worker's child")

        async def second_attempt() -> bool:
            return bool(poller.seen[-1]["attempt"] == 2)

        await wait_until(second_attempt, timeout=LEASE_SECONDS + 5, what="the second attempt")
        taken_over = time.monotonic() - killed
        document = await two_workers.ended(client, task_id, timeout=60)
        await polling
        result = await client.get(f"/v1/workload/{task_id}/result")

    assert taken_over < LEASE_SECONDS + 5
    assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert len(result.content) == document["result"]["size"]
    assert _titled(task_id) == []
    _assert_that_nothing_falls(poller.seen)
    begun = [line for line in two_workers.worker_log.splitlines() if "started" in line and task_id in line]
    assert "attempt=1 progress=0" in begun[0]
    assert "attempt=2 progress=" in begun[1]
    assert "attempt=2 progress=0 " not in begun[1], "it starts from the checkpoint"


def _assert_that_nothing_falls(seen: list[dict[str, Any]]) -> None:
    """`seq` never, and progress only to a checkpoint, at a new attempt."""
    for before, after in itertools.pairwise(seen):
        assert after["seq"] >= before["seq"], (before, after)
        assert after["attempt"] >= before["attempt"], (before, after)
        if after["attempt"] == before["attempt"]:
            assert after["progress"] >= before["progress"], (before, after)


async def _worker_of(service: Service, own_redis: RedisServer, task_id: str) -> Process:
    async with Redis.from_url(own_redis.url) as redis:
        holder = await redis.hget(task_key(UUID(task_id)), "worker")
    assert isinstance(holder, bytes)
    (worker,) = [worker for worker in service.workers if holder.decode().endswith(f":{worker.pid}")]
    return worker


def _titled(task_id: str) -> list[psutil.Process]:
    """Return the processes whose title names the task."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(f"longhaul: generate_report {task_id}" in word for word in process.info["cmdline"] or [])
    ]
