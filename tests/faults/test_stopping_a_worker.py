"""SIGTERM: running jobs are given back uncharged, go on from their checkpoint elsewhere, and the exit status is 0."""

import asyncio
import os
import time

import httpx

from stack.processes import Process
from tests.faults.conftest import Breakable, Diary, submit
from tests.faults.work import STEPS
from tests.support.waiting import wait_until

CONNECTED = "connected to RabbitMQ connection="
MOMENTS = 6


def stopped(worker: Process, *, patience: float) -> int:
    """SIGTERM a worker; return its exit status."""
    worker.end(patience=patience)
    status = worker._child.returncode
    assert isinstance(status, int)
    return status


async def test_a_stopping_worker_gives_its_job_to_another_that_goes_on_from_the_checkpoint(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    task = await submit(caller, "hold", what="wait once", diary=str(diary.path))
    await diary.has("begun 1")
    worker = await broken.worker_of(task)

    began = time.monotonic()
    assert stopped(worker, patience=15) == 0
    assert time.monotonic() - began < broken.service.settings.shutdown_seconds

    document = await broken.service.ended(caller, task, timeout=5)
    assert document["status"] == "COMPLETED"
    assert document["attempt"] == 2
    assert diary.lines == ["begun 1", "cancelled", "begun 2", "done"]
    assert "charged" not in await broken.task(task) or (await broken.task(task))["charged"] == "0"


async def test_a_job_that_ends_in_time_is_not_given_back(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    await diary.has("step 10")
    assert stopped(await broken.worker_of(task), patience=15) == 0
    document = await broken.service.ended(caller, task, timeout=1)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines == ["begun 1", *(f"step {step}" for step in range(STEPS)), "done"]


async def test_a_blocking_job_is_given_back_and_its_process_is_gone(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    task = await submit(caller, "blocking_hold", what="wait once", diary=str(diary.path))
    await diary.has("begun 1")
    assert stopped(await broken.worker_of(task), patience=15) == 0
    document = await broken.service.ended(caller, task, timeout=5)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert diary.lines == ["begun 1", "begun 2", "done"]


async def test_a_worker_that_has_nothing_to_do_stops_at_once(broken: Breakable) -> None:
    """It does not wait for jobs that it has not: a minute would be theirs."""
    broken.service.workers.pop().end(patience=15)
    broken.service.environment = os.environ | {"LONGHAUL_SHUTDOWN_SECONDS": "60"}
    try:
        idle = await broken.service.start_worker()
    finally:
        broken.service.environment = os.environ
    began = time.monotonic()
    assert stopped(idle, patience=30) == 0
    assert time.monotonic() - began < 15


async def test_what_was_prefetched_and_has_not_begun_goes_back_at_once(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """Another worker takes it while the running job still has its time to end."""
    one, other = broken.service.workers
    one.end(patience=15)
    first = await submit(caller, "narrow_hold", what="wait once", diary=str(diary.path))
    await diary.has("begun 1")
    second = await submit(caller, "narrow_hold", what="nothing", diary=str(diary.path))
    await broken.mend()
    other._child.terminate()
    try:
        document = await broken.service.ended(caller, second, timeout=1)
        assert document["attempt"] == 1
        assert (await broken.task(first))["status"] == "PROCESSING"
        assert (await broken.service.ended(caller, first))["attempt"] == 2
    finally:
        assert other._child.wait(timeout=15) == 0


async def test_a_worker_that_is_told_to_stop_while_it_begins_stops(broken: Breakable) -> None:
    """At every moment of it: redis-py may lose a cancellation, and whoever waits for what was cancelled stays."""
    service = broken.service

    connected = 0

    async def connects() -> bool:
        return service.worker_log.count(CONNECTED) > connected

    for moment in range(MOMENTS):
        connected = service.worker_log.count(CONNECTED)
        worker = service._start("worker-engine", log="worker.log")
        try:
            await wait_until(connects, timeout=60, pause=0.001, what="the worker's first connection")
            await asyncio.sleep(0.03 * moment / MOMENTS)
            assert stopped(worker, patience=service.settings.shutdown_seconds) == 0
        finally:
            worker.kill()
