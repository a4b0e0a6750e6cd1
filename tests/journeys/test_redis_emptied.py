"""All that Redis holds is lost, or is older than it was: each task goes on as it stood, and ends once."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aio_pika
import httpx
import pytest

from app.archive.archive import open_archive
from app.domain.task import Owner
from app.service.submission import derived_task_id
from app.store.keys import task_key
from app.store.tasks import TaskStore
from stack.servers import RabbitServer
from tests.support.crashing import Sluice, Theatre, theatre
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service whose worker serves `work` only: what is put into `later` waits."""
    async with theatre(rabbit_server, tmp_path_factory.mktemp("redis"), queues=["work", "later"]) as service:
        await service.worker("worker0", serves=["work"])
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    await stage.let_epochs_grow_old()
    async with stage.client(subject) as client:
        yield client


async def ended_once(stage: Theatre, client: httpx.AsyncClient, task_id: str, *, attempt: int, begun: int = 1) -> None:
    """It completes: one row, its effects as often as they may have been."""

    async def document() -> dict[str, object] | None:
        answer = await client.get(f"/v1/workload/status/{task_id}")
        return answer.json() if answer.json().get("status") == "COMPLETED" else None

    shown = await wait_until(document, timeout=30, what=f"the end of {task_id}")
    assert shown is not None
    assert shown["attempt"] == attempt
    assert stage.rows(task_id) == [(1, "COMPLETED")]
    assert stage.count_of(task_id) == {"begun": begun, 0: 1}


async def test_each_task_goes_on_as_it_stood(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Running ones are restored by their workers, waiting ones by their messages, ended ones are told from SQL."""
    ended = await stage.submit(caller)
    told = await stage.ended(caller, ended)
    waiting = await stage.submit(caller, "later")
    inline, process = await stage.submit(caller, seconds=7), await stage.submit(caller, "hard_work", seconds=7)
    delayed = await stage.submit(caller, delay_seconds=6.9)
    resting = await stage.submit(caller, failures=1, how="retry", retry_after=6.9)
    rest = await stage.until(caller, resting, status="PENDING", attempt=1)
    due = {resting: rest["next_attempt_at"], delayed: (await stage.shown(caller, delayed))["next_attempt_at"]}
    for task_id in (inline, process):
        await stage.begun(task_id)
    before = {task_id: await stage.shown(caller, task_id) for task_id in (inline, process)}

    await stage.empty_redis()
    emptied = time.monotonic()

    assert await stage.shown(caller, ended) == told
    assert ended in [task["task_id"] for task in (await caller.get("/v1/workload")).json()["items"]]
    assert (await caller.get(f"/v1/workload/status/{waiting}")).status_code == 404
    for task_id in (inline, process):
        restored = await stage.until(caller, task_id, status="PROCESSING", attempt=1, timeout=5)
        assert restored["seq"] > before[task_id]["seq"]
        assert restored["started_at"] == before[task_id]["started_at"]
    assert time.monotonic() - emptied < 5
    await stage.let_epochs_grow_old()  # else the wait of young ones would hide who begins too early
    worker = await stage.worker("latecomer", serves=["later"])
    await asyncio.gather(
        *(ended_once(stage, caller, task_id, attempt=1) for task_id in (waiting, inline, process, delayed)),
        ended_once(stage, caller, resting, attempt=2, begun=2),
    )
    worker.end(patience=10)
    for task_id in (delayed, resting):
        last = [effect for effect in stage.effects_of(task_id) if effect["step"] == "begun"][-1]
        assert datetime.fromtimestamp(last["at"], tz=UTC) >= datetime.fromisoformat(due[task_id])
    listed = (await caller.get("/v1/workload")).json()["items"]
    assert {task["task_id"] for task in listed} == {ended, waiting, inline, process, delayed, resting}


async def test_a_job_that_was_handed_over_keeps_its_message(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Its copies are parked by others, so its worker, which brings it back, does not know which of them guards it."""
    worker = await stage.worker("giver", serves=["later"], LONGHAUL_CONSUMER_HANDOVER_SECONDS="1")
    task_id = await stage.submit(caller, "later", seconds=60)

    async def parked() -> bool:
        return "parked seconds=" in stage.log_of("giver")[seen:]

    seen = 0
    await wait_until(parked, timeout=20, what="the parking of its copy")
    seen = len(stage.log_of("giver"))
    await stage.empty_redis()
    await stage.until(caller, task_id, status="PROCESSING", attempt=1, timeout=5)
    await wait_until(parked, timeout=20, what="the next parking")
    assert "dropped a message" not in stage.log_of("giver")
    assert (await stage.hash_of(task_id))["guard"]

    assert (await caller.post(f"/v1/workload/{task_id}/cancel")).status_code == 202
    assert (await stage.ended(caller, task_id))["status"] == "CANCELLED"
    assert stage.rows(task_id) == [(1, "CANCELLED")]
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}
    worker.end(patience=10)


async def test_a_message_waits_while_nobody_can_say_whether_it_may_start(
    stage: Theatre, caller: httpx.AsyncClient
) -> None:
    """Dropped too early it would be the last of a task that was promised.

    One is in doubt: an API is about to refuse it, or to find out that it runs. The other is a retry, on whose missing
    hash a DELETE of the run before has put its first mark, and then died.
    """
    doubted, refused, marked = [await stage.submit(caller, "later") for _ in range(3)]
    await caller.post(f"/v1/workload/{marked}/cancel")
    assert (await caller.post(f"/v1/workload/{marked}/retry")).status_code == 202
    guards = {task_id: (await stage.hash_of(task_id))["guard"] for task_id in (doubted, refused)}
    async with open_archive(stage.settings.archive_url.get_secret_value()) as archive, stage.operator() as redis:
        for task_id, message_id in guards.items():
            await archive.doubt(UUID(task_id), message_id)
        await archive.refuse(UUID(refused), guards[refused])
        await stage.empty_redis()
        await stage.let_epochs_grow_old()
        await TaskStore(redis, lease=timedelta(seconds=3), status_ttl=timedelta(hours=1)).forget(UUID(marked), "owner")
        await redis.persist(task_key(UUID(marked)))  # on a busy machine its worker may be slower to start
        worker = await stage.worker("judge", serves=["later"])

        async def told_apart() -> bool:
            lines = stage.log_of("judge").splitlines()
            waiting = [line for line in lines if "parked until it can be decided" in line]
            dropped = [line for line in lines if "dropped a message" in line]
            return all(any(task_id in line for line in waiting) for task_id in (doubted, marked)) and any(
                refused in line for line in dropped
            )

        await wait_until(told_apart, what="the waits of the two, and the end of the third")
        assert stage.effects_of(doubted) == stage.effects_of(marked) == []
        await archive.lift_doubt(UUID(doubted), guards[doubted])
        await redis.pexpire(task_key(UUID(marked)), 1)  # instead of waiting
    await ended_once(stage, caller, doubted, attempt=1)
    await stage.until(caller, marked, status="COMPLETED", timeout=30)  # until then the run before is shown, CANCELLED
    assert stage.rows(marked) == [(1, "CANCELLED"), (2, "COMPLETED")]
    assert stage.effects_of(refused) == []
    worker.end(patience=10)


async def test_a_request_whose_message_was_confirmed_refuses_nothing_any_more(
    stage: Theatre, caller: httpx.AsyncClient, subject: str
) -> None:
    """Redis is emptied before the confirm: the request starts over, in a young epoch, where nothing is made anew."""
    key = f"key-of-{subject}"
    task_id = str(derived_task_id(Owner(stage.settings.jwt.issuer, subject), key))
    async with Sluice(stage.rabbit.port) as sluice:
        amqp_url = sluice.url(stage.settings.amqp_url.get_secret_value())
        _, url = await stage.api("held-up", LONGHAUL_AMQP_URL=amqp_url)
        sluice.shut()
        body, headers = {"action": "work"}, {"Idempotency-Key": key}
        request = asyncio.create_task(caller.post(f"{url}/v1/workload", json=body, headers=headers))

        async def begun() -> bool:
            return (await stage.hash_of(task_id)).get("status") == "created"

        await wait_until(begun, what="the beginning of the submission")
        await stage.empty_redis()
        sluice.open()
        answer = await request
    assert answer.status_code == 500, answer.text
    assert answer.json()["type"] == "/problems/internal"
    await ended_once(stage, caller, task_id, attempt=1)


async def test_a_long_delay_outlives_redis(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Longer than any level of delay: when its message comes round, it is parked again, and not begun."""
    task_id = await stage.submit(caller, delay_seconds=86_400)
    before = await stage.shown(caller, task_id)
    await stage.empty_redis()
    await stage.let_epochs_grow_old()
    async with stage.broker() as channel:  # its level of an hour is over
        parked = await (await channel.get_queue("delay.3600s")).get()
        again = aio_pika.Message(parked.body, message_id=parked.message_id, type=parked.type, headers=parked.headers)
        await (await channel.get_exchange("longhaul", ensure=False)).publish(again, "work")
        await parked.ack()

    shown = await stage.until(caller, task_id, status="PENDING")

    assert shown["next_attempt_at"] == before["next_attempt_at"]
    assert shown["attempt"] == 0

    async def parked_again() -> bool:
        return await stage.ready("delay.3600s") == 1 and await stage.ready("work") == 0

    await wait_until(parked_again, what="its parking")
    assert stage.effects_of(task_id) == []
    assert (await caller.post(f"/v1/workload/{task_id}/cancel")).json()["status"] == "CANCELLED"
    async with stage.broker() as channel:
        await (await channel.get_queue("delay.3600s")).purge()


async def test_a_redis_with_older_data_starts_nothing_that_has_ended(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Where its hash says PROCESSING, or PENDING, the row is found, and shown; nothing is done again."""
    running, waiting = await stage.submit(caller, seconds=1), await stage.submit(caller, delay_seconds=3)
    await stage.begun(running)
    data, older = stage.redis.directory / "appendonlydir", stage.redis.directory / "older"
    await asyncio.to_thread(shutil.copytree, data, older)
    told = [await stage.ended(caller, task_id) for task_id in (running, waiting)]

    await asyncio.to_thread(stage.redis.kill)
    shutil.rmtree(data)
    older.rename(data)
    await asyncio.to_thread(stage.redis.start)

    for task_id, old in ((running, "PROCESSING"), (waiting, "PENDING")):
        assert (await stage.hash_of(task_id))["status"] == old, "the data are not older"
    for task_id, end in zip((running, waiting), told, strict=True):
        await stage.until(caller, task_id, status="COMPLETED", finished_at=end["finished_at"], timeout=30)
        assert not await stage.is_living(task_id)
        assert stage.rows(task_id) == [(1, "COMPLETED")]
        assert stage.count_of(task_id) == {"begun": 1, 0: 1}
