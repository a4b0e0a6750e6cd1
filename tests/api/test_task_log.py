"""`GET …/logs`: what a handler has written, in order, bounded, and only for its owner."""

import httpx
import pytest

from app.store.keys import logs_key
from tests.api.problems import parameters_of, problem_of
from tests.api.sockets import opened
from tests.api.staging import Staging
from tests.support.service import Service


async def test_lines_are_read_in_order(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    path = f"/v1/workload/{task_id}/logs"
    assert (await alice.get(path)).json() == {"items": []}
    await staging.log(task_id, token, "ä", '"quoted" \\ {x}')
    await staging.log(task_id, token, "third", after=2)
    answer = await alice.get(path)
    items = answer.json()["items"]
    assert [(item["line"], item["level"], item["message"]) for item in items] == [
        (1, "info", "ä"),
        (2, "info", '"quoted" \\ {x}'),
        (3, "info", "third"),
    ]
    assert items[0].keys() == {"task_id", "line", "time", "level", "message"}
    assert answer.headers["cache-control"] == "private, no-cache"
    assert [item["line"] for item in (await alice.get(path, params={"after": 1, "limit": 1})).json()["items"]] == [2]
    head = await alice.head(path)
    assert (head.status_code, head.content) == (200, b"")
    shown = (await alice.get(f"/v1/workload/status/{task_id}")).json()
    assert shown["links"]["logs"] == {"href": path}


async def test_only_the_last_thousand_lines_are_kept(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    for start in range(0, 1200, 300):
        await staging.log(task_id, token, *map(str, range(start, start + 300)), after=start)
    items = (await alice.get(f"/v1/workload/{task_id}/logs")).json()["items"]
    assert [item["line"] for item in items] == list(range(201, 1201))


async def test_a_log_lives_as_long_as_its_task_is_shown_and_goes_with_it(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers={"Prefer": "wait=8"})).json()
    task_id, token = await staging.processing()
    await staging.log(task_id, token, "x")
    assert await staging._redis.pttl(logs_key(task_id)) == -1
    await staging.end(task_id)
    assert await staging._redis.pttl(logs_key(task_id)) > 0
    late = await staging.logs.append(task_id, 1, token, [], after=1)
    assert late == "LOST"
    path = f"/v1/workload/{task['task_id']}"
    assert (await alice.delete(path)).status_code == 204
    problem_of(await alice.get(f"{path}/logs"), "not-found")


async def test_what_is_deleted_has_no_log_left(staging: Staging) -> None:
    task_id, token = await staging.processing()
    await staging.log(task_id, token, "x")
    await staging.end(task_id)
    assert await staging.store.forget(task_id, "owner")
    assert not await staging._redis.exists(logs_key(task_id))


async def test_a_line_is_an_event_of_a_socket(service: Service, subject: str, staging: Staging) -> None:
    task_id, token = await staging.processing()
    await staging.log(task_id, token, "before")
    async with (
        opened(service, task_id, service.token(subject)) as one,
        opened(service, None, service.token(subject)) as every,
    ):
        assert (await one.next())["type"] == "status"
        assert (await every.next())["type"] == "status"
        assert (await one.next())["message"] == "before"
        await staging.log(task_id, token, "after", after=1)
        told = await one.next()
        assert told.keys() == {"type", "task_id", "line", "time", "level", "message"}
        assert (told["type"], told["line"], told["message"]) == ("log", 2, "after")
        assert await every.next() == told


async def test_a_late_worker_writes_nothing(staging: Staging) -> None:
    task_id, token = await staging.processing()
    assert await staging.logs.append(task_id, 1, token - 1, [], after=0) == "LOST"


@pytest.mark.parametrize(
    ("query", "wrong"),
    [("after=-1", ["after"]), ("after=x&limit=0", ["after", "limit"]), ("limit=1001", ["limit"]), ("x=1", ["x"])],
)
async def test_a_wrong_query_is_refused(
    query: str, wrong: list[str], alice: httpx.AsyncClient, bob: httpx.AsyncClient, staging: Staging
) -> None:
    path = f"/v1/workload/{await staging.pending()}/logs?{query}"
    assert parameters_of(await alice.get(path)) == wrong
    problem_of(await bob.get(path), "not-found")
