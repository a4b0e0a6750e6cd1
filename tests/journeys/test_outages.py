"""SQL is away for a while, everything is restarted under load: nothing is lost, nothing is done or charged twice."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stack.processes import Process
from stack.servers import RabbitServer
from tests.support.crashing import Theatre, theatre
from tests.support.waiting import wait_until

SMALL = 200
LONG = 4
ROUNDS = 2


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service whose archive stands in a directory of its own."""
    directory = tmp_path_factory.mktemp("outages")
    async with theatre(
        rabbit_server, directory, archive_url=f"sqlite:///{directory}/sql/archive.db", queues=["work", "later"]
    ) as service:
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with stage.client(subject) as client:
        yield client


@contextlib.contextmanager
def sql_away(stage: Theatre) -> Iterator[None]:
    """Make the archive's file unavailable."""
    directory = Path(stage.settings.archive_url.get_secret_value().removeprefix("sqlite:///")).parent
    away = directory.rename(directory.with_name("sql-away"))
    try:
        yield
    finally:
        away.rename(directory)


async def test_without_sql_nothing_ends_and_nothing_is_acknowledged(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Running tasks stay PROCESSING, their messages in hand, and end when it is back, once; what needs SQL is 503."""
    worker = await stage.worker("worker-without-sql", serves=["work"])
    tasks = [await stage.submit(caller, seconds=0.5, file=True) for _ in range(5)]
    failing = await stage.submit(caller, seconds=0.5, fails_at=1, failures=9, how="fatal")
    waiting = await stage.submit(caller, "later")
    for task_id in (*tasks, failing):
        await stage.begun(task_id)
    with sql_away(stage):

        async def tried() -> bool:
            return stage.log_of("worker-without-sql").count("the end cannot be written yet") > len(tasks)

        await wait_until(tried, timeout=20, what="the attempts to write")
        for task_id in (*tasks, failing):
            shown = await stage.shown(caller, task_id)
            assert (shown["status"], shown["attempt"]) == ("PROCESSING", 1)

        await stage.until_messages(lambda queues: queues.get("work") == len(tasks) + 1)
        keyed = await caller.post("/v1/workload", json={"action": "later"}, headers={"Idempotency-Key": "without-sql"})
        assert keyed.status_code == 503
        assert (await caller.post(f"/v1/workload/{waiting}/cancel")).status_code == 503
        keyless = await stage.submit(caller)
    for task_id in (*tasks, keyless):
        completed = await stage.ended(caller, task_id, timeout=15)
        assert (completed["status"], completed["attempt"]) == ("COMPLETED", 1)
        assert stage.rows(task_id) == [(1, "COMPLETED")]
        assert stage.count_of(task_id) == {"begun": 1, 0: 1}
    assert (await stage.ended(caller, failing))["attempt"] == 1
    assert (await caller.post(f"/v1/workload/{waiting}/cancel")).json()["status"] == "CANCELLED"
    assert not await stage.is_living(keyed.json().get("task_id", "00000000-0000-0000-0000-000000000000"))
    worker.end(patience=10)


class Load:
    """Many small tasks and a few long ones, submitted at a steady pace by a client that repeats what had no answer."""

    def __init__(self, stage: Theatre, client: httpx.AsyncClient) -> None:
        self.stage = stage
        self.client = client
        self.running: dict[str, Process] = {}
        self.url = ""

    async def start(self, which: str, number: int) -> None:
        """Start the API, or the worker."""
        if which == "api":
            self.running[which], self.url = await self.stage.api(f"restarted-api-{number}")
        else:
            self.running[which] = await self.stage.worker(f"restarted-worker-{number}")

    async def restart(self, which: str, number: int, *, patience: float) -> None:
        """Stop it, in time, and start another."""
        before = time.monotonic()
        await asyncio.to_thread(self.running[which].end, patience=patience + 5)
        assert time.monotonic() - before < patience
        await self.start(which, number)

    async def submit_all(self) -> list[str]:
        """Submit everything; return the ids."""
        submitting = []
        for number in range(SMALL + LONG):
            submitting.append(asyncio.create_task(self._submit(number)))
            await asyncio.sleep(0.05)
        return await asyncio.gather(*submitting)

    async def _submit(self, number: int) -> str:
        work: dict[str, Any] = {"steps": 6, "seconds": 1, "grumbles": True} if number < LONG else {}
        body = {"action": "hard_work" if number < LONG and number % 2 else "work", "max_attempts": 1, **work}
        headers = {"Idempotency-Key": f"load-{number}"}
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.client.post(f"{self.url}/v1/workload", json=body, headers=headers)
                if answer.status_code == 202:
                    return str(answer.json()["task_id"])
                assert answer.status_code >= 500, answer.text
            await asyncio.sleep(random.uniform(0.05, 0.3))


async def test_restarts_under_load_lose_and_charge_nothing(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Worker and API are stopped again and again, each in time; every task ends, though one charge would fail it."""
    load = Load(stage, caller)
    await asyncio.gather(load.start("api", 0), load.start("worker", 0))
    submitted = asyncio.create_task(load.submit_all())
    for number in range(1, ROUNDS + 1):
        await asyncio.sleep(0.5)
        await load.restart("worker", number, patience=stage.settings.shutdown_seconds)
        await load.restart("api", number, patience=stage.settings.api.shutdown_seconds + 3)
    tasks = await submitted

    assert len(set(tasks)) == SMALL + LONG
    ended = [await stage.ended(caller, task_id, timeout=30) for task_id in tasks]
    assert {document["status"] for document in ended} == {"COMPLETED"}
    assert all(stage.rows(task_id) == [(1, "COMPLETED")] for task_id in tasks)
    assert all(stage.count_of(task_id) == {"begun": 1, 0: 1} for task_id in tasks[LONG:])
    assert any(document["attempt"] > 1 for document in ended[:LONG])  # given back, and gone on with

    await stage.until_messages(lambda queues: queues.keys() <= {"birth", "dead", "later"})
    for process in load.running.values():
        process.end(patience=10)


async def test_a_handler_that_does_not_stop_does_not_hold_up_the_stop(
    stage: Theatre, caller: httpx.AsyncClient
) -> None:
    """It swallows its cancellation: its task is given back uncharged, and the process ends in time without it."""
    worker = await stage.worker("stubborn-worker", serves=["later"])
    task_id = await stage.submit(caller, "later", seconds=60, stubborn=True, max_attempts=1)
    await stage.begun(task_id)
    before = time.monotonic()
    limit = stage.settings.shutdown_seconds
    await asyncio.to_thread(worker.end, patience=limit + 10)
    assert time.monotonic() - before < limit + 1
    given_back = await stage.shown(caller, task_id)
    assert (given_back["status"], given_back["attempt"]) == ("PENDING", 1)
    assert (await caller.post(f"/v1/workload/{task_id}/cancel")).json()["status"] == "CANCELLED"
