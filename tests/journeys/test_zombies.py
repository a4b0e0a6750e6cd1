"""Workers that stand still, operators that set a status by hand, and messages that get lost."""

import asyncio
import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import httpx
import pytest

from app.store.keys import task_key
from stack.servers import RabbitServer
from tests.support.crashing import Theatre, theatre
from tests.support.processes import runs
from tests.support.waiting import wait_until

BY_HAND = 60.0
"""Seconds within which a status set to PENDING by hand is noticed."""


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service with two workers."""
    async with theatre(rabbit_server, tmp_path_factory.mktemp("zombies"), workers=2) as service:
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with stage.client(subject) as client:
        yield client


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """SIGSTOP a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def set_pending(stage: Theatre, task_id: str) -> None:
    """Do what an operator does."""
    async with stage.operator() as redis:
        await redis.hset(task_key(UUID(task_id)), "status", "PENDING")


async def test_a_worker_that_stood_still_changes_nothing_any_more(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Its tasks are taken over when their leases have run out, by themselves or by an operator's hand.

    When it comes to again, it stops, and writes neither effect nor checkpoint nor end; its file is not served.
    """
    tasks = [await stage.submit(caller, steps=2, seconds=4, file=True, max_attempts=2) for _ in range(3)]
    for task_id in tasks:
        await stage.begun(task_id)
    holders: dict[int, list[str]] = defaultdict(list)
    for task_id in tasks:
        holders[stage.effects_of(task_id)[0]["pid"]].append(task_id)
    zombie, (plain, by_hand, *_) = max(holders.items(), key=lambda item: len(item[1]))

    with standing_still(zombie):
        stopped = time.monotonic()
        await set_pending(stage, by_hand)
        await asyncio.gather(*(stage.begun(task_id, times=2, timeout=BY_HAND) for task_id in (plain, by_hand)))
        assert time.monotonic() - stopped < 30  # lease 3, leadership 10, take-over 5, and the rounds of housekeeping
        before = [await stage.shown(caller, task_id) for task_id in (plain, by_hand)]

    assert {document["attempt"] for document in before} == {2}
    for task_id in tasks:
        completed = await stage.ended(caller, task_id)
        taken_over = task_id in (plain, by_hand)
        assert (completed["status"], completed["attempt"]) == ("COMPLETED", 2 if taken_over else 1)
        assert stage.rows(task_id) == [(1, "COMPLETED")]
        if taken_over:
            assert stage.count_of(task_id) == {"begun": 2, 0: 2, 1: 1}
            assert {effect["pid"] for effect in stage.effects_of(task_id) if effect["attempt"] == 1} == {zombie}
            assert (await caller.get(f"/v1/workload/{task_id}/result")).text == "made by attempt 2"

    async def fenced() -> bool:
        return sum(stage.log_of(f"worker{n}").count("stopped: the lease is lost") for n in (0, 1)) >= 2

    await wait_until(fenced, what="the zombie's stop")


async def test_a_job_in_a_process_ends_with_the_lease_of_its_engine(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Its engine stands still, and it does not: another worker takes over, and what the old one reports comes too late.

    Its checkpoint waits for the engine, which comes to again, finds its lease lost, stores nothing and ends the child.
    """
    task_id = await stage.submit(caller, "hard_work", steps=2, seconds=1, file=True, max_attempts=2)
    await stage.begun(task_id)
    engine = int((await stage.hash_of(task_id))["worker"].rpartition(":")[2])
    child = stage.effects_of(task_id)[0]["pid"]
    assert child != engine

    with standing_still(engine):
        await stage.begun(task_id, times=2, timeout=BY_HAND)
        assert runs(child), "it waits for its engine"

    async def ended() -> bool:
        return not runs(child)

    await wait_until(ended, what="the end of the old child")
    completed = await stage.ended(caller, task_id)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 2)
    assert stage.rows(task_id) == [(1, "COMPLETED")]
    assert stage.count_of(task_id) == {"begun": 2, 0: 2, 1: 1}, "the old child went on, or its checkpoint was stored"
    assert [effect["pid"] == child for effect in stage.effects_of(task_id)] == [True, True, False, False, False]
    assert (await caller.get(f"/v1/workload/{task_id}/result")).text == "made by attempt 2"


async def test_a_status_set_to_pending_by_hand_is_noticed(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Of a running task and of a FAILED one: both run again within a minute."""
    running = await stage.submit(caller, seconds=4)
    failed = await stage.submit(caller, fails_at=0, failures=1, how="fatal")
    await stage.begun(running)
    await stage.ended(caller, failed)
    for task_id in (running, failed):
        await set_pending(stage, task_id)
    await asyncio.gather(*(stage.begun(task_id, times=2, timeout=BY_HAND) for task_id in (running, failed)))
    for task_id in (running, failed):
        completed = await stage.ended(caller, task_id)
        assert (completed["status"], completed["attempt"]) == ("COMPLETED", 2)
    assert stage.rows(running) == [(1, "COMPLETED")]
    assert stage.rows(failed) == [(1, "FAILED"), (2, "COMPLETED")]


async def test_a_lost_message_is_replaced(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """A waiting task whose message is gone gets another one, at the latest 15 s after `redrive_after_seconds`."""
    task_id = await stage.submit(caller, delay_seconds=4)
    assert await stage.ready("delay.5s") == 1
    await stage.purge("delay.5s")
    limit = 4 + stage.settings.redrive_after_seconds + 15
    completed = await stage.ended(caller, task_id, timeout=limit)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 1)
    assert stage.rows(task_id) == [(1, "COMPLETED")]
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}
