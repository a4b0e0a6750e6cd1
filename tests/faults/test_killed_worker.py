"""SIGKILL: whoever loses its worker is taken over within the lease and five seconds, and nobody is tried for ever."""

import time

import httpx
import psutil

from tests.faults.conftest import LEASE_SECONDS, Breakable, Diary, submit
from tests.support.waiting import wait_until
from tests.workers.executors.conftest import wait_until_gone

TAKEOVER_SECONDS = LEASE_SECONDS + 5


async def test_another_worker_takes_over_and_the_killed_ones_child_is_gone(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    task = await submit(caller, "blocking_hold", what="wait once", diary=str(diary.path))
    await diary.has("begun 1")
    worker = await broken.worker_of(task)
    began = time.monotonic()
    worker._child.kill()
    await wait_until_gone(task)
    document = await broken.service.ended(caller, task, timeout=TAKEOVER_SECONDS)
    assert time.monotonic() - began < TAKEOVER_SECONDS
    assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert diary.lines == ["begun 1", "begun 2", "done"]


async def test_a_job_that_kills_its_worker_fails_and_is_not_tried_for_ever(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """Two lost workers are what `max_attempts` allows here; then the owner is told."""

    async def a_worker_is_dead() -> bool:
        return not all(worker.is_running for worker in broken.service.workers)

    task = await submit(caller, "hold", what="kill the engine", diary=str(diary.path))
    for attempt in (1, 2):
        await diary.has(f"begun {attempt}", within=TAKEOVER_SECONDS)
        await wait_until(a_worker_is_dead, what="the death of the worker")
        await broken.mend()
    document = await broken.service.ended(caller, task, timeout=TAKEOVER_SECONDS + 5)
    assert document["status"] == "FAILED"
    assert document["error"]["type"] == "/problems/worker-lost"
    assert document["attempt"] == 2
    assert diary.lines == ["begun 1", "begun 2"]
    assert all(worker.is_running for worker in broken.service.workers)

    async def a_dead_letter_is_left() -> bool:
        return await broken.waiting() == {"dead": 1}

    await wait_until(a_dead_letter_is_left, what="the end of its last message")
    (letter,) = await broken.take("dead")
    assert letter.headers["reason"] == "worker-lost"


async def test_a_worker_that_lost_its_lease_stops_the_handler_and_writes_nothing_more(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """As after a long pause: another token is newer. The handler on the loop is cancelled, and the job ends once."""
    task = await submit(caller, "hold", what="wait once", diary=str(diary.path))
    await diary.has("begun 1")
    token = int((await broken.task(task))["token"])
    await broken.change(task, "token", token + 1)
    await diary.has("cancelled", within=LEASE_SECONDS)
    document = await broken.service.ended(caller, task, timeout=TAKEOVER_SECONDS)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert diary.lines == ["begun 1", "cancelled", "begun 2", "done"]


async def test_a_handler_that_meets_the_lost_lease_is_no_error_in_the_log(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """What it raises then is what it should raise."""
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    await diary.has("step 2")
    await broken.change(task, "token", int((await broken.task(task))["token"]) + 1)
    document = await broken.service.ended(caller, task, timeout=TAKEOVER_SECONDS)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert "stopped: the lease is lost" in broken.service.worker_log
    assert "never retrieved" not in broken.service.worker_log


async def test_a_worker_that_was_frozen_past_its_lease_does_not_disturb_its_successor(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """SIGSTOP, takeover by the other worker once the broker hands the message on, SIGCONT: the late one is fenced.

    The broker gives a silent peer up after half a minute; a restart of it is quicker.
    """
    task = await submit(caller, "blocking_hold", what="wait once", diary=str(diary.path))
    await diary.has("begun 1")
    worker = await broken.worker_of(task)
    engine = psutil.Process(worker.pid)
    engine.suspend()
    try:
        broken.rabbit_server.kill()
        broken.rabbit_server.start()
        document = await broken.service.ended(caller, task, timeout=TAKEOVER_SECONDS)
        settled = await broken.task(task)
    finally:
        engine.resume()
    await wait_until_gone(task)
    await broken.consumed()
    assert (document["status"], document["attempt"]) == ("COMPLETED", 2)
    assert await broken.task(task) == settled
    assert diary.lines == ["begun 1", "begun 2", "done"]
