"""RabbitMQ's patience with an open delivery, and a RabbitMQ that has lost everything."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from stack.ports import free_port
from stack.servers import RabbitServer
from tests.support.crashing import Theatre, theatre
from tests.support.service import make_vhost
from tests.support.waiting import wait_until

PATIENCE_MS = 3000
"""Of the broker with an open delivery (`consumer_timeout`), looked after every `TICK_MS`; 30 minutes and 60 s else."""
TICK_MS = 500
JOB = 12.0


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service on an impatient RabbitMQ of its own; its worker serves `work` only."""
    rabbit = RabbitServer(tmp_path_factory.mktemp("impatient-rabbit"), free_port(3), die_with_parent=True)
    await asyncio.to_thread(rabbit.start)
    try:
        await make_impatient(rabbit)
        directory = tmp_path_factory.mktemp("rabbitmq")
        async with theatre(
            rabbit, directory, queues=["work", "later"], vhost=False, consumer_handover_seconds=1
        ) as service:
            await service.worker("worker0", serves=["work"])
            yield service
    finally:
        await asyncio.to_thread(rabbit.stop)


async def make_impatient(rabbit: RabbitServer) -> None:
    """Let it close channels that hold a delivery for long; it holds until the broker is started again."""
    for name, value in (("consumer_timeout", PATIENCE_MS), ("channel_tick_interval", TICK_MS)):
        await asyncio.to_thread(rabbit.ctl, "eval", f"application:set_env(rabbit, {name}, {value}).")


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with stage.client(subject) as client:
        yield client


async def unacknowledged(stage: Theatre) -> int:
    listing = await asyncio.to_thread(stage.rabbit.ctl, "list_queues", "messages_unacknowledged")
    return sum(int(line) for line in listing.split() if line.isdigit())


async def test_a_job_may_last_longer_than_the_brokers_patience(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """It holds no delivery, its channel is never closed, one copy guards it, and it runs once."""
    channels_lost = stage.log_of("worker0").count("the consumer's channel was lost")
    tasks = [await stage.submit(caller, action, seconds=JOB) for action in ("work", "hard_work")]
    for task_id in tasks:
        await stage.begun(task_id)
    end = time.monotonic() + JOB - 3
    await asyncio.sleep(2)  # handed over after 1

    held, copies = [], []
    while time.monotonic() < end:
        held.append(await unacknowledged(stage))
        copies.append(await stage.waiting())

    assert min(held) == 0
    assert held.count(0) >= len(held) - 2  # but for a copy that is just being parked again
    # One each, or none while it is in the worker's hands. Were they to grow, it would be by one each in every lease.
    assert max(copies) <= len(tasks)
    assert len(tasks) in copies
    for task_id in tasks:
        completed = await stage.ended(caller, task_id)
        assert (completed["status"], completed["attempt"]) == ("COMPLETED", 1)
        assert stage.count_of(task_id) == {"begun": 1, 0: 1}

    await stage.until_messages(lambda queues: queues.keys() == {"birth"})
    assert stage.log_of("worker0").count("the consumer's channel was lost") == channels_lost
    assert stage.log_of("worker0").count("handed over") >= len(tasks)


async def test_who_starts_on_an_emptied_rabbitmq_fills_it(
    rabbit_server: RabbitServer, tmp_path: Path, subject: str
) -> None:
    """Everything died at once: API and worker find neither exchange nor queue, and need no operator either."""
    async with theatre(rabbit_server, tmp_path, workers=0) as service, service.client(subject) as caller:
        waiting = await service.submit(caller)
        for process in service.apis:
            process.kill()
        service.apis.clear()
        vhost = service.settings.amqp_url.get_secret_value().rpartition("/")[2]
        await asyncio.to_thread(rabbit_server.ctl, "delete_vhost", vhost)
        await asyncio.to_thread(make_vhost, rabbit_server, vhost)

        await service.start_api()
        await service.worker("worker0")
        assert (await service.ended(caller, waiting, timeout=60))["status"] == "COMPLETED"
        assert service.count_of(waiting) == {"begun": 1, 0: 1}
        again = await service.submit(caller)
        assert (await service.ended(caller, again))["status"] == "COMPLETED"


async def test_an_emptied_rabbitmq_is_filled_again(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Without an operator: topology, a message for each living task, the mark; nothing runs twice, or too early."""
    rabbit = stage.rabbit
    waiting = await stage.submit(caller, "later")
    delayed = await stage.submit(caller, delay_seconds=20)
    running = await stage.submit(caller, seconds=20)
    ended = await stage.submit(caller)
    await stage.ended(caller, ended)
    await stage.begun(running)
    due = (await stage.shown(caller, delayed))["next_attempt_at"]

    await asyncio.to_thread(rabbit.stop)
    shutil.rmtree(rabbit.directory / "data")
    assert (await caller.post("/v1/workload", json={"action": "work"})).status_code == 503
    assert (await stage.shown(caller, running))["status"] == "PROCESSING"
    await asyncio.to_thread(rabbit.start)
    await make_impatient(rabbit)

    async def marked() -> bool:
        try:
            return (await stage.messages()).get("birth") == 1
        except Exception:  # noqa: BLE001  # it is just beginning
            return False

    await wait_until(marked, timeout=30, pause=1, what="the birth mark")
    later = await stage.worker("latecomer", serves=["later"])
    completed = {task_id: await stage.ended(caller, task_id, timeout=45) for task_id in (waiting, running, delayed)}
    later.end(patience=10)
    for task_id, document in completed.items():
        assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
        assert stage.rows(task_id) == [(1, "COMPLETED")]
        assert stage.count_of(task_id) == {"begun": 1, 0: 1}
    assert completed[delayed]["started_at"] >= due
    again = await stage.submit(caller)
    assert (await stage.ended(caller, again))["status"] == "COMPLETED"

    await stage.until_messages(lambda queues: queues == {"birth": 1})
