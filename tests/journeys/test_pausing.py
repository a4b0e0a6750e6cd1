"""A queue is paused: nobody begins anything from it until it is resumed, whatever is restarted or emptied meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from stack.processes import Process
from stack.servers import RabbitServer
from tests.support.crashing import Theatre, theatre
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")

ADMIN = "workload:admin"
WITHIN = 10.0
"""Seconds for what takes workers three, on a machine that has other work."""


@pytest.fixture
async def stage(rabbit_server: RabbitServer, tmp_path: Path) -> AsyncIterator[Theatre]:
    """A service whose worker runs two jobs of a queue at once, and has more in hand besides."""
    async with theatre(rabbit_server, tmp_path, queues=["work", "later"], redrive_after_seconds=1, slots=2) as service:
        yield service


@pytest.fixture
async def worker(stage: Theatre) -> Process:
    """It, consuming."""
    return await stage.worker("worker0")


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with stage.client(subject) as client:
        yield client


@pytest.fixture
async def operator(stage: Theatre) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may pause."""
    async with stage.client("an operator", scopes=ADMIN) as client:
        yield client


async def paused(stage: Theatre, operator: httpx.AsyncClient, queue: str, *, why: str = "to see") -> None:
    """Pause a queue, and wait until its worker has heard of it."""
    before = stage.log_of("worker0").count(f"paused queue={queue}")
    answer = await operator.post(f"/v1/admin/queues/{queue}/pause", json={"reason": why})
    assert answer.status_code == 200, answer.text
    assert answer.json()["paused"]["reason"] == why

    async def heard() -> bool:
        return stage.log_of("worker0").count(f"paused queue={queue}") > before

    await wait_until(heard, timeout=WITHIN, what="the worker's pause")


async def resume(operator: httpx.AsyncClient, queue: str) -> None:
    answer = await operator.post(f"/v1/admin/queues/{queue}/resume", json={"reason": "seen"})
    assert (answer.status_code, answer.json()["paused"]) == (200, None)


async def test_what_runs_goes_on_what_waits_waits_and_other_queues_are_served(
    stage: Theatre, caller: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    running = await stage.submit(caller, steps=8, seconds=1)
    await stage.begun(running)
    await paused(stage, operator, "work")
    waiting = await stage.submit(caller)
    assert (await stage.ended(caller, await stage.submit(caller, "later")))["status"] == "COMPLETED"
    completed = await stage.ended(caller, running)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 1)
    assert (await stage.shown(caller, waiting))["status"] == "PENDING"
    assert stage.count_of(waiting) == {}

    await resume(operator, "work")
    completed = await stage.ended(caller, waiting, timeout=WITHIN)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 1)


async def test_what_was_in_hand_and_had_not_begun_goes_back(
    stage: Theatre, caller: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    running = [await stage.submit(caller, steps=6, seconds=1) for _ in range(2)]
    for task_id in running:
        await stage.begun(task_id)
    waiting = [await stage.submit(caller) for _ in range(2)]

    async def ready_are(count: int) -> bool:
        return await stage.ready("work") == count

    await wait_until(lambda: ready_are(0), what="all of them in the worker's hands")
    await paused(stage, operator, "work")
    await wait_until(lambda: ready_are(2), what="the return of those that have not begun")
    await asyncio.gather(*(stage.ended(caller, task_id) for task_id in running))
    assert [stage.count_of(task_id) for task_id in waiting] == [{}, {}]
    await resume(operator, "work")
    await asyncio.gather(*(stage.ended(caller, task_id, timeout=WITHIN) for task_id in waiting))


async def test_neither_a_restart_nor_an_emptied_redis_resumes_a_queue(
    stage: Theatre, worker: Process, caller: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    await paused(stage, operator, "work")
    task_id = await stage.submit(caller)
    worker.kill()
    await stage.empty_redis()
    stage._launch("worker1", "worker-engine", environment={})

    async def started() -> bool:
        return "consuming queue=later" in stage.log_of("worker1")

    await wait_until(started, timeout=60, what="the new worker")
    await stage.let_epochs_grow_old()
    await asyncio.sleep(3)
    assert "consuming queue=work" not in stage.log_of("worker1")
    assert stage.count_of(task_id) == {}
    shown = (await operator.get("/v1/admin/queues/work")).json()["paused"]
    assert (shown["by"].split()[-1], shown["reason"]) == ("operator", "to see")
    await resume(operator, "work")
    assert (await stage.ended(caller, task_id, timeout=WITHIN))["status"] == "COMPLETED"


async def test_a_lost_message_is_replaced_only_after_the_queue_is_resumed(
    stage: Theatre, caller: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    await paused(stage, operator, "work")
    task_id = await stage.submit(caller)
    await stage.purge("work")
    await asyncio.sleep(12)  # unpaused it takes 6 s: SETTLING, and redrive_after_seconds
    assert await stage.ready("work") == 0
    assert (await stage.hash_of(task_id)).get("redrives") is None
    await resume(operator, "work")
    assert (await stage.ended(caller, task_id, timeout=30))["status"] == "COMPLETED"
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}
