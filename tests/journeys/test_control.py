"""Control: cancel what waits or runs, run again what has ended, forget it for good."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.store.keys import task_key
from stack.servers import RabbitServer
from tests.support.crashing import Theatre, theatre
from tests.support.processes import runs

GRACE = 2.0
"""`cancel_grace_seconds` of the tests' services."""
STUBBORN = 2.0
"""How long a handler that swallows its cancellation is waited for."""


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service whose worker serves `work` only: what is put into `later` waits."""
    async with theatre(rabbit_server, tmp_path_factory.mktemp("control"), queues=["work", "later"]) as service:
        await service.worker("worker0", serves=["work"])
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    await stage.let_epochs_grow_old()
    async with stage.client(subject) as client:
        yield client


async def cancel(client: httpx.AsyncClient, task_id: str) -> httpx.Response:
    return await client.post(f"/v1/workload/{task_id}/cancel")


async def test_a_waiting_task_is_cancelled_in_the_answer_and_never_runs(
    stage: Theatre, caller: httpx.AsyncClient
) -> None:
    """In its queue, parked for later, or resting between two attempts: its message comes, and is dropped."""
    others = await stage.ready("later")
    queued = await stage.submit(caller, "later")
    parked = await stage.submit(caller, delay_seconds=1.5)
    resting = await stage.submit(caller, failures=9, how="retry", retry_after=1.5)
    await stage.until(caller, resting, status="PENDING", attempt=1)

    for task_id in (queued, parked, resting):
        for _ in range(2):
            answer = await cancel(caller, task_id)
            assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLED")
            assert answer.json()["error"]["type"] == "/problems/cancelled"
        assert stage.rows(task_id) == [(1, "CANCELLED")]
        assert not await stage.is_living(task_id)

    assert await stage.ready("later") == others + 1
    worker = await stage.worker("latecomer", serves=["later"])

    await stage.until_messages(lambda queues: queues.keys() <= {"birth", "dead"})
    worker.end(patience=10)
    assert [stage.count_of(task_id)["begun"] for task_id in (queued, parked, resting)] == [0, 0, 1]
    assert {(await stage.shown(caller, task_id))["status"] for task_id in (queued, parked, resting)} == {"CANCELLED"}


@pytest.mark.parametrize("stubborn", [False, True], ids=["obedient", "stubborn"])
@pytest.mark.parametrize("action", ["work", "hard_work"])
async def test_a_running_task_is_stopped(
    stage: Theatre, caller: httpx.AsyncClient, action: str, stubborn: bool
) -> None:
    """On the loop or in a process; whoever ignores being asked is not waited for longer than the grace."""
    task_id = await stage.submit(caller, action, steps=2, seconds=15, stubborn=stubborn)
    await stage.begun(task_id)
    await stage.until(caller, task_id, message="step 0")  # its report is a change of its own
    asked = await cancel(caller, task_id)
    assert (asked.status_code, asked.json()["status"], asked.json()["cancel_requested"]) == (202, "PROCESSING", True)
    again = await cancel(caller, task_id)
    assert (again.status_code, again.json()["seq"]) == (202, asked.json()["seq"])

    limit = 3 + (GRACE + STUBBORN if stubborn else 0)
    cancelled = await stage.ended(caller, task_id, timeout=limit)

    assert (cancelled["status"], cancelled["attempt"]) == ("CANCELLED", 1)
    assert "cancel_requested" not in cancelled
    assert cancelled["error"]["type"] == "/problems/cancelled"
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}
    (pid,) = {effect["pid"] for effect in stage.effects_of(task_id)}
    assert action == "work" or not runs(pid)


async def test_what_has_ended_otherwise_cannot_be_cancelled(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """409 for COMPLETED and FAILED, 202 for CANCELLED, in Redis or from the archive; nothing changes."""
    completed, failed = await stage.submit(caller), await stage.submit(caller, failures=1, how="fatal")
    cancelled = await stage.submit(caller, "later")
    await cancel(caller, cancelled)
    before = [await stage.ended(caller, task_id) for task_id in (completed, failed, cancelled)]
    for archived in (False, True):
        if archived:
            async with stage.operator() as redis:
                await redis.delete(*(task_key(UUID(task_id)) for task_id in (completed, failed, cancelled)))
        answers = [await cancel(caller, task_id) for task_id in (completed, failed, cancelled)]
        assert [answer.status_code for answer in answers] == [409, 409, 202]
        assert {answer.json()["type"] for answer in answers[:2]} == {"/problems/conflict"}
    assert [await stage.shown(caller, task_id) for task_id in (completed, failed, cancelled)] == before


async def test_a_cancelled_task_can_be_retried_from_its_checkpoint(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """What it had committed is not done again; the cancellation is forgotten."""
    task_id = await stage.submit(caller, steps=3, seconds=0.6)
    await stage.until(caller, task_id, progress=33)
    await cancel(caller, task_id)
    cancelled = await stage.ended(caller, task_id)
    assert cancelled["status"] == "CANCELLED"
    answer = await caller.post(f"/v1/workload/{task_id}/retry")
    assert answer.status_code == 202
    assert answer.json()["status"] in ("PENDING", "PROCESSING")
    assert "cancel_requested" not in answer.json()
    completed = await stage.ended(caller, task_id)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 2)
    assert stage.count_of(task_id)[0] == 1
    assert stage.rows(task_id) == [(1, "CANCELLED"), (2, "COMPLETED")]


async def test_a_task_token_cancels_its_own_task_only(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Another task is 404 and goes on waiting; retry and delete are not what it opens."""
    answers = [await caller.post("/v1/workload", json={"action": "later"}) for _ in range(2)]
    own, other = (answer.json() for answer in answers)
    async with httpx.AsyncClient(
        base_url=stage.base_url, headers={"Authorization": f"Bearer {own['task_token']}"}
    ) as holder:
        assert (await cancel(holder, other["task_id"])).status_code == 404
        assert (await holder.post(f"/v1/workload/{own['task_id']}/retry")).status_code == 403
        assert (await holder.delete(f"/v1/workload/{own['task_id']}")).status_code == 403
        assert (await cancel(holder, own["task_id"])).json()["status"] == "CANCELLED"
    assert (await stage.shown(caller, other["task_id"]))["status"] == "PENDING"
    await asyncio.gather(*(cancel(caller, one["task_id"]) for one in (own, other)))


# --- retry and DELETE


async def retry(client: httpx.AsyncClient, task_id: str) -> httpx.Response:
    return await client.post(f"/v1/workload/{task_id}/retry")


@pytest.mark.parametrize("archived", [False, True], ids=["in-redis", "from-the-row"])
async def test_a_failed_task_runs_again_from_its_checkpoint(
    stage: Theatre, caller: httpx.AsyncClient, archived: bool
) -> None:
    """Of two racing retries one is taken; seq and attempt rise; its attempts are counted anew."""
    task_id = await stage.submit(caller, steps=2, fails_at=1, failures=2, max_attempts=2)
    failed = await stage.ended(caller, task_id)
    assert (failed["status"], failed["attempt"], failed["progress"]) == ("FAILED", 2, 0)
    if archived:
        async with stage.operator() as redis:
            await redis.delete(task_key(UUID(task_id)))
        assert await stage.shown(caller, task_id) == failed

    answers = await asyncio.gather(retry(caller, task_id), retry(caller, task_id))

    assert sorted(answer.status_code for answer in answers) == [202, 409]
    (taken,) = [answer.json() for answer in answers if answer.status_code == 202]
    assert taken["status"] in ("PENDING", "PROCESSING")
    assert taken["seq"] > failed["seq"]
    assert not {"error", "finished_at"} & taken.keys()
    completed = await stage.ended(caller, task_id)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 3)
    assert completed["seq"] > taken["seq"]
    assert completed["created_at"] == failed["created_at"]
    assert stage.count_of(task_id) == {"begun": 3, 0: 1, 1: 1}
    assert stage.rows(task_id) == [(1, "FAILED"), (2, "COMPLETED")]
    assert (await retry(caller, task_id)).status_code == 409
    assert len((await caller.get("/v1/workload")).json()["items"]) == 1


async def test_what_has_not_ended_cannot_be_retried(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """409, and it goes on as it did."""
    waiting, running = await stage.submit(caller, "later"), await stage.submit(caller, seconds=1)
    await stage.begun(running)
    assert {(await retry(caller, task_id)).status_code for task_id in (waiting, running)} == {409}
    assert (await stage.shown(caller, waiting))["status"] == "PENDING"
    assert (await stage.ended(caller, running))["attempt"] == 1


async def test_a_living_task_cannot_be_deleted(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """409, and it goes on as it did."""
    waiting, running = await stage.submit(caller, "later"), await stage.submit(caller, seconds=1)
    await stage.begun(running)
    answers = [await caller.delete(f"/v1/workload/{task_id}") for task_id in (waiting, running)]
    assert {(answer.status_code, answer.json()["type"]) for answer in answers} == {(409, "/problems/conflict")}
    assert (await stage.shown(caller, waiting))["status"] == "PENDING"
    assert (await stage.ended(caller, running))["status"] == "COMPLETED"


async def test_a_deleted_task_is_nowhere_any_more(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Not in its status, its result, its list or a socket; its file and its rows are gone, and a mark stays."""
    task_id = await stage.submit(caller, file=True)
    await stage.ended(caller, task_id)
    files = Path(stage.settings.results_url.removeprefix("file://")) / task_id
    assert list(files.iterdir())

    assert (await caller.delete(f"/v1/workload/{task_id}")).status_code == 204

    for path in (f"/v1/workload/status/{task_id}", f"/v1/workload/{task_id}/result"):
        assert (await caller.get(path)).status_code == 404
    assert (await caller.delete(f"/v1/workload/{task_id}")).status_code == 404
    assert (await caller.post(f"/v1/workload/{task_id}/cancel")).status_code == 404
    assert (await retry(caller, task_id)).status_code in (404, 410)
    assert (await caller.get("/v1/workload")).json()["items"] == []
    url = f"{stage.base_url.replace('http', 'ws')}/v1/workload/{task_id}/ws"
    async with connect(url, additional_headers={"Authorization": caller.headers["authorization"]}) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4404
    assert not files.exists() or not list(files.iterdir())
    assert stage.rows(task_id) == []


@pytest.mark.parametrize("emptied", [False, True], ids=["", "and-redis-emptied"])
async def test_what_was_deleted_never_comes_back(stage: Theatre, caller: httpx.AsyncClient, emptied: bool) -> None:
    """Though its message still waits in a queue, or parked: it comes, and is dropped, with Redis' help or without."""
    queued, parked = await stage.submit(caller, "later"), await stage.submit(caller, delay_seconds=1.5)
    for task_id in (queued, parked):
        assert (await caller.post(f"/v1/workload/{task_id}/cancel")).json()["status"] == "CANCELLED"
        assert (await caller.delete(f"/v1/workload/{task_id}")).status_code == 204
    if emptied:
        await stage.empty_redis()
    worker = await stage.worker(f"deleted-{emptied}", serves=["later"])

    await stage.until_messages(lambda queues: queues.keys() <= {"birth", "dead"})
    worker.end(patience=10)
    for task_id in (queued, parked):
        assert stage.effects_of(task_id) == []
        assert stage.rows(task_id) == []
        assert (await caller.get(f"/v1/workload/status/{task_id}")).status_code == 404
        assert (await retry(caller, task_id)).status_code in (404, 410)
