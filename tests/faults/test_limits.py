"""Memory and standstill: who takes too much is ended and tried again, up to the cap; nobody else notices."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import MAX_RSS_MB, STALL_SECONDS, Breakable, Diary, submit
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("what", "kind", "detail"),
    [
        ("grow", "out-of-memory", f"MiB of memory, and {MAX_RSS_MB} MiB are allowed."),
        ("stop", "stalled", f"The job's process showed no sign of life for {STALL_SECONDS} seconds."),
    ],
)
async def test_a_job_over_its_limits_is_tried_again_up_to_the_cap_and_its_neighbour_goes_on(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary, tmp_path: Path, what: str, kind: str, detail: str
) -> None:
    """Also the worker goes on; the owner is told why, and so is whoever looks after the dead letters."""
    other = Diary(tmp_path / "other diary")
    neighbour = await submit(caller, "blocking_hold", what="wait once", diary=str(other.path))
    await other.has("begun 1")
    task = await submit(caller, "blocking_hold", what=what, diary=str(diary.path))

    document = await broken.service.ended(caller, task)

    assert (document["status"], document["attempt"]) == ("FAILED", 2)
    assert document["error"]["type"] == f"/problems/{kind}"
    assert document["error"]["detail"].endswith(detail)
    assert diary.lines == ["begun 1", "begun 2"]
    (letter,) = await broken.take("dead")
    assert (letter.headers["task_id"], letter.headers["reason"]) == (task, kind)
    assert (await broken.task(neighbour))["status"] == "PROCESSING"
    assert other.lines == ["begun 1"]
    assert all(worker.is_running for worker in broken.service.workers)
    assert (await caller.post(f"/v1/workload/{neighbour}/cancel")).status_code == 202
    await broken.service.ended(caller, neighbour)


async def test_an_engine_that_has_grown_takes_nothing_new_ends_its_jobs_and_makes_room_for_another(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary, tmp_path: Path
) -> None:
    """What an `async def` handler leaks stays in the engine. Nothing is lost or charged by its restart."""
    service = broken.service
    spare, engine = service.workers
    await asyncio.to_thread(spare.end, patience=15)
    before = len(service.worker_log)
    growing = await submit(caller, "hold", what="grow", diary=str(diary.path))

    async def has_told() -> bool:
        return "the engine has grown too large" in service.worker_log[before:]

    await wait_until(has_told, what="the engine's noticing")
    waiting = Diary(tmp_path / "diary of the waiting")
    next_task = await submit(caller, "hold", what="nothing", diary=str(waiting.path))

    async def is_ready() -> bool:
        return (await broken.waiting()).get("slow") == 1

    await wait_until(is_ready, what="its lying in the queue, in nobody's hands")
    assert engine.is_running
    assert (await broken.task(growing))["status"] == "PROCESSING"

    Path(f"{diary.path}.enough").touch()
    document = await service.ended(caller, growing)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)

    async def has_ended() -> bool:
        return not engine.is_running

    await wait_until(has_ended, timeout=15, what="the end of the engine")
    assert waiting.lines == []
    engine.kill()
    assert engine._child.returncode == 75, "what a supervisor takes for a failure"
    await broken.mend()
    document = await service.ended(caller, next_task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)


async def test_a_handler_that_blocks_the_loop_is_named_in_the_log(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    before = len(broken.service.worker_log)
    task = await submit(caller, "hold", what="block", diary=str(diary.path))
    await broken.service.ended(caller, task)

    async def is_told() -> bool:
        lines = broken.service.worker_log[before:].splitlines()
        told = [line for line in lines if "the engine's loop was held up" in line]
        return any("by='handler hold'" in line and "faults/work.py:" in line for line in told)

    await wait_until(is_told, what="the line about it")
