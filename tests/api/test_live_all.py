"""WebSocket on all of one's tasks: the living ones first, then whatever happens to any of them."""

import asyncio
from uuid import UUID

import httpx
import pytest

from tests.api.sockets import opened
from tests.api.staging import Staging
from tests.support.service import Service


async def test_living_tasks_come_first_the_newest_of_them_first(
    service: Service, subject: str, staging: Staging
) -> None:
    tasks: list[UUID] = [await staging.pending(created_at=1_700_000_000_000 + number) for number in range(3)]
    await staging.failed()
    running, _ = await staging.processing()
    async with opened(service, None, service.token(subject)) as socket:
        for _ in range(4):
            await socket.next()
        assert [one["task_id"] for one in socket.tasks] == [str(one) for one in (running, *reversed(tasks))]
        new = await staging.pending()
        assert (await socket.next())["task"]["task_id"] == str(new)


async def test_every_task_is_told_and_the_end_of_each(service: Service, alice: httpx.AsyncClient, subject: str) -> None:
    async with opened(service, None, service.token(subject)) as socket:
        ids = {
            (await alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.2, "steps": 2})).json()["task_id"]
            for _ in range(10)
        }
        ended: set[str] = set()
        while ended != ids:
            message = await socket.next()
            if message["task"]["status"] == "COMPLETED":
                ended.add(message["task"]["task_id"])
    for task_id in ids:
        seqs = [one["seq"] for one in socket.tasks if one["task_id"] == task_id]
        assert seqs == sorted(set(seqs))


async def test_at_most_200_living_ones_come_first(service: Service, subject: str, staging: Staging) -> None:
    made = [await staging.pending(created_at=1_700_000_000_000 + number) for number in range(203)]
    async with opened(service, None, service.token(subject)) as socket:
        for _ in range(200):
            await socket.next()
        new = await staging.pending()
        assert (await socket.next())["task"]["task_id"] == str(new)
    assert {one["task_id"] for one in socket.tasks} == {str(one) for one in made[3:]} | {str(new)}


async def test_what_is_anothers_is_not_told(service: Service, subject: str, staging: Staging) -> None:
    task_id, token = await staging.processing()
    async with opened(service, None, service.token(f"not-{subject}")) as socket:
        await staging.store.beat(task_id, 1, token, progress=5, message=None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.connection.recv(), 0.5)


async def test_a_task_that_runs_again_is_told_again(service: Service, subject: str, alice: httpx.AsyncClient) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1, "delay_seconds": 60})).json()
    async with opened(service, None, service.token(subject)) as socket:
        await alice.post(task["links"]["cancel"]["href"])
        await alice.post(f"/v1/workload/{task['task_id']}/retry")
        while (await socket.next())["task"]["status"] != "COMPLETED":
            pass
    seqs = [one["seq"] for one in socket.tasks]
    assert seqs == sorted(set(seqs))


async def test_refusals_are_close_codes(service: Service, subject: str, alice: httpx.AsyncClient) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    scopeless = service.token(subject, scopes="workload:submit")
    for token, code in ((None, 4401), ("nonsense", 4401), (task["task_token"], 4403), (scopeless, 4403)):
        async with opened(service, None, token) as socket:
            assert await socket.code() == code
    async with opened(service, None, service.token(subject), origin="https://evil.example") as socket:
        assert await socket.code() == 4403
