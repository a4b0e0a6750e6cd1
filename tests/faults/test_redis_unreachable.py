"""Redis stays away: the worker says so as operators have always known it, and ends; the next one goes on."""

import asyncio
import os
from pathlib import Path

import httpx

from tests.faults.conftest import LEASE_SECONDS, Breakable, Diary, submit
from tests.support.waiting import wait_until
from tests.workers.executors.conftest import wait_until_gone

PATIENCE_SECONDS = 2 * LEASE_SECONDS


async def test_a_worker_without_redis_gives_up_in_the_end_and_its_jobs_go_on_in_the_next(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary, tmp_path: Path
) -> None:
    """Two lines of the log stand exactly so; the status is 1; no process is left; nothing is lost or charged."""
    service, other = broken.service, Diary(tmp_path / "other diary")
    for worker in service.workers:
        await asyncio.to_thread(worker.end, patience=15)
    service.workers.clear()
    service.environment = os.environ | {"LONGHAUL_REDIS_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
    try:
        impatient = await service.start_worker()
    finally:
        service.environment = os.environ
    tasks = [
        await submit(caller, "hold", what="wait once", diary=str(diary.path)),
        await submit(caller, "blocking_hold", what="wait once", diary=str(other.path)),
    ]
    for one in (diary, other):
        await one.has("begun 1")
    before = len(service.worker_log)

    await asyncio.to_thread(broken.redis_server.kill)
    try:

        async def has_ended() -> bool:
            return not impatient.is_running

        await wait_until(has_ended, timeout=PATIENCE_SECONDS + 30, what="the worker's giving up")
        impatient.kill()
        assert impatient._child.returncode == 1
        for task in tasks:
            await wait_until_gone(task)
    finally:
        await asyncio.to_thread(broken.redis_server.start)

    lines = service.worker_log[before:].splitlines()
    assert lines.count("[ERROR] Connection to Redis lost.") == 1
    critical = [line for line in lines if line.startswith("[CRITICAL]")]
    assert critical == sorted(f"[CRITICAL] Task {task[:8]} failed: Redis unreachable." for task in tasks)
    assert lines.index("[ERROR] Connection to Redis lost.") < lines.index(critical[0])
    assert not any("Traceback" in line for line in lines)

    await broken.mend()
    for task in tasks:
        document = await service.ended(caller, task)
        assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert other.lines == ["begun 1", "begun 2", "done"]
