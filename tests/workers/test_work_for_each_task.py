"""How much work a small task makes when many wait: counted, not timed, so that a gross regression is seen anywhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stack.servers import RabbitServer, RedisServer
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

TASKS = 400
SCRIPTS_FOR_EACH = 3
"""Claim, the last beat before the row, settle."""
READS_FOR_EACH = 1.0
"""What Redis reads from sockets at a time, be it one command or many. One by one they would be 4 and more."""


@pytest.fixture
async def service(own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path: Path) -> AsyncIterator[Service]:
    """A service whose worker has not begun; only jobs and a long lease, so that no housekeeping or beat is counted."""
    async with running_service(
        own_redis, rabbit_server, tmp_path / "service", workers=0, roles=["jobs"], lease_seconds=120
    ) as running:
        yield running


async def counted(redis: Redis) -> tuple[int, int]:
    """Return how many scripts Redis has run, and how often it has read from a socket."""
    commands: dict[str, Any] = await redis.info("commandstats")
    stats: dict[str, Any] = await redis.info("stats")
    return commands.get("cmdstat_evalsha", {"calls": 0})["calls"], stats["total_reads_processed"]


async def test_a_small_task_takes_three_scripts_which_share_their_round_trips(
    service: Service, own_redis: RedisServer
) -> None:
    async with service.client() as client, Redis.from_url(own_redis.url) as redis:
        for first in range(0, TASKS, 50):
            answers = await asyncio.gather(
                *(
                    client.post("/v1/workload", json={"action": "noop", "id": number})
                    for number in range(first, first + 50)
                )
            )
            assert {answer.status_code for answer in answers} == {202}
        tasks = [answer.json()["task_id"] for answer in answers]
        scripts, reads = await counted(redis)
        await service.start_worker(roles=["jobs"])

        async def all_ended() -> bool:
            return service.worker_log.count("] ended status=COMPLETED") == TASKS

        await wait_until(all_ended, timeout=60, what="all ends")
        scripts_after, reads_after = await counted(redis)
        assert (await service.ended(client, tasks[-1]))["status"] == "COMPLETED"
    assert (scripts_after - scripts) / TASKS == pytest.approx(SCRIPTS_FOR_EACH, abs=0.3)
    assert (reads_after - reads) / TASKS <= READS_FOR_EACH
