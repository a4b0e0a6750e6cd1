"""What operators see and may do: everybody's tasks and the queues, the workers, the dead letters; never a payload."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis

from app.store.keys import task_key
from tests.api.conftest import Hook, held_against
from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.support.service import Service
from tests.support.waiting import wait_until

ADMIN = "workload:submit workload:read workload:admin"
SECRET = 918_273_645


@pytest.fixture
async def admin(service: Service, documented: Hook) -> AsyncIterator[httpx.AsyncClient]:
    """An operator."""
    async with held_against(documented, service, service.token("an operator", scopes=ADMIN)) as client:
        yield client


async def items(client: httpx.AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/admin/{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


ROUTES = [
    ("GET", "queues"), ("GET", "queues/bench"), ("GET", "workers"), ("GET", "tasks"), ("GET", "tasks/stalled"),
    ("GET", "tasks/{id}"), ("GET", "dead-letters"), ("POST", "dead-letters/x/redrive"),
    ("POST", "dead-letters/x/purge"), ("POST", "queues/bench/pause"), ("POST", "queues/bench/resume"),
    ("POST", "tasks/{id}/requeue"), ("GET", "tasks/{id}/deliveries"), ("POST", "tasks/{id}/deliveries/x/redeliver"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_the_scope_there_is_nothing_to_see(
    method: str, path: str, alice: httpx.AsyncClient, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    full = f"/v1/admin/{path.format(id=await staging.pending())}"
    problem_of(await anybody.request(method, full), "unauthorized")
    refused = await alice.request(method, full)
    problem_of(refused, "insufficient-scope")
    assert 'scope="workload:admin"' in refused.headers["www-authenticate"]


async def test_a_task_token_opens_nothing_of_it(alice: httpx.AsyncClient, anybody: httpx.AsyncClient) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    anybody.headers["authorization"] = f"Bearer {task['task_token']}"
    problem_of(await anybody.get("/v1/admin/workers"), "insufficient-scope")
    problem_of(await anybody.get(f"/v1/admin/tasks/{task['task_id']}"), "insufficient-scope")


async def test_a_queues_load_is_what_is_due_and_what_runs_but_not_what_is_for_later(
    admin: httpx.AsyncClient, staging: Staging, service_redis: Redis
) -> None:
    staging.queue = "transform"  # which no other test here uses

    async def queue() -> dict[str, Any]:
        shown: dict[str, Any] = (await admin.get("/v1/admin/queues/transform")).json()
        return shown

    before = await queue()
    assert before.keys() >= {"name", "load", "ready", "running", "parked", "consumers", "depth_limit"}
    due = [await staging.pending() for _ in range(3)]
    await staging.processing()
    later = await staging.pending()
    await service_redis.hset(task_key(later), "not_before", 4_000_000_000_000)

    async def counted() -> bool:
        now = await queue()
        grown = {name: now[name] - before[name] for name in ("load", "running", "parked")}
        return grown == {"load": len(due) + 1, "running": 1, "parked": 1}

    await wait_until(counted, what="the staged tasks in the queue's figures")
    named = {one["name"]: one for one in await items(admin, "queues")}
    assert named.keys() == {"report_gen", "transform", "bench"}
    assert named["transform"]["consumers"] == 1


async def test_rates_are_those_of_the_last_half_minute(admin: httpx.AsyncClient, alice: httpx.AsyncClient) -> None:
    for number in range(30):
        await alice.post("/v1/workload", json={"action": "noop", "id": number})

    async def seen() -> bool:
        queue = (await admin.get("/v1/admin/queues/bench")).json()
        return bool(queue["in_per_second"] >= 1 and queue["out_per_second"] >= 1)

    await wait_until(seen, what="one task a second, in and out")


async def test_an_unknown_queue_is_not_found(admin: httpx.AsyncClient) -> None:
    problem_of(await admin.get("/v1/admin/queues/none"), "not-found")


async def test_a_worker_says_what_it_is_at(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient, service: Service
) -> None:
    task_id = (await alice.post("/v1/workload", json={"action": "sleep", "seconds": 60, "steps": 60})).json()["task_id"]

    async def holder() -> dict[str, Any] | None:
        for worker in await items(admin, "workers"):
            if any(task["task_id"] == task_id for task in worker["tasks"]):
                return worker
        return None

    worker = await wait_until(holder, timeout=20, what="the task in a heartbeat")
    assert worker
    assert worker["pid"] in {process.pid for process in service.workers}
    assert worker["rss_bytes"] > 10_000_000
    bench = next(queue for queue in worker["queues"] if queue["name"] == "bench")
    assert bench["running"] >= 1
    assert bench["slots"] == 100
    shown = (await admin.get(f"/v1/admin/tasks/{task_id}")).json()
    assert shown["worker"] == worker["id"]
    assert shown["lease_until"]
    await alice.post(f"/v1/workload/{task_id}/cancel")
    await service.ended(alice, task_id)

    async def left() -> bool:
        return not await holder()

    await wait_until(left, timeout=20, what="its leaving the heartbeat")


async def test_tasks_that_are_claimed_in_the_same_millisecond_are_told_apart(
    alice: httpx.AsyncClient, service: Service
) -> None:
    """Tokens are times in ms, unique for one task only: a worker's list of what runs must not go by them."""
    answers = await asyncio.gather(
        *(alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.05, "steps": 1}) for _ in range(60))
    )
    for answer in answers:
        ended = await service.ended(alice, answer.json()["task_id"])
        assert (ended["status"], ended["attempt"]) == ("COMPLETED", 1)


async def test_everybodys_tasks_come_living_first_and_page_by_page(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient, staging: Staging, service: Service
) -> None:
    label = f"l{uuid4().hex}"
    living = [str(await staging.pending(labels=(label,), created_at=1_700_000_000_000 + n // 2)) for n in range(5)]
    ended = []
    for number in range(3):
        task = (await alice.post("/v1/workload", json={"action": "noop", "id": number, "labels": [label]})).json()
        await service.ended(alice, task["task_id"])
        ended.append(task["task_id"])
    created = {task_id: 1_700_000_000_000 + n // 2 for n, task_id in enumerate(living)}
    expected = [*sorted(living, key=lambda one: (created[one], one), reverse=True), *reversed(ended)]

    for limit in (1, 2, 5, 8, 200):
        found: list[str] = []
        query: dict[str, Any] = {"label": label, "limit": limit}
        while True:
            page = (await admin.get("/v1/admin/tasks", params=query)).json()
            assert len(page["items"]) <= limit
            found += [task["task_id"] for task in page["items"]]
            if "next_cursor" not in page:
                break
            query["cursor"] = page["next_cursor"]
        assert found == expected, limit
    assert [task["task_id"] for task in await items(admin, "tasks", label=label, status="COMPLETED")] == expected[5:]
    assert [task["task_id"] for task in await items(admin, "tasks", label=label, status="PENDING")] == expected[:5]
    assert await items(admin, "tasks", label=label, action="sleep") == []
    assert await items(admin, "tasks", label=label[:-1]) == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("cursor=x", "cursor"),
        ("cursor=bGl2aW5nOjox", "cursor"),
        ("limit=0", "limit"),
        ("status=DONE", "status"),
        ("q=x", "q"),
    ],
)
async def test_a_query_that_cannot_be_read_is_named(query: str, parameter: str, admin: httpx.AsyncClient) -> None:
    problem = problem_of(await admin.get(f"/v1/admin/tasks?{query}"), "validation")
    assert [error["parameter"] for error in problem["errors"]] == [parameter]


async def test_neither_payload_nor_result_is_shown(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient, staging: Staging, service: Service
) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": SECRET})).json()
    await service.ended(alice, task["task_id"])
    file = await staging.completed(b"content", filename="the-name-of-the-file.bin")
    for task_id in (task["task_id"], file):
        answer = await admin.get(f"/v1/admin/tasks/{task_id}")
        assert answer.status_code == 200
        for secret in (str(SECRET), "the-name-of-the-file", "result", "envelope", "token"):
            assert secret not in answer.text
    problem_of(await admin.get(f"/v1/admin/tasks/{uuid4()}"), "not-found")


async def test_a_running_task_whose_worker_is_silent_is_stalled(
    admin: httpx.AsyncClient, staging: Staging, service_redis: Redis, subject: str
) -> None:
    task_id, _ = await staging.processing()

    async def listed() -> bool:
        return str(task_id) in {task["task_id"] for task in await items(admin, "tasks/stalled")}

    assert not await listed()

    async def silent() -> bool:
        # Always just expired: housekeeping takes over what has been so for five seconds.
        await service_redis.hset(task_key(task_id), "lease_until", int(time.time() * 1000) - 100)
        return await listed()

    await wait_until(silent, timeout=20, what="the stalled task")
    found = {task["task_id"]: task for task in await items(admin, "tasks/stalled")}[str(task_id)]
    assert (found["stalled"], found["worker"]) == ("lease-expired", "the test")
    assert found["stalled_since"]


# --- queues


async def test_a_queue_is_paused_once_and_resumed_with_an_audit_line_each(
    admin: httpx.AsyncClient, service: Service
) -> None:
    queue = "/v1/admin/queues/report_gen"
    first = (await admin.post(f"{queue}/pause", json={"reason": "the first reason"})).json()
    try:
        assert first["paused"].items() >= {"reason": "the first reason"}.items()
        assert first["paused"]["by"].endswith("an operator")
        again = (await admin.post(f"{queue}/pause", json={"reason": "another"})).json()
        assert again["paused"] == first["paused"] == (await admin.get(queue)).json()["paused"]
    finally:
        resumed = await admin.post(f"{queue}/resume", json={"reason": "all is well"})
    assert (resumed.status_code, resumed.json()["paused"]) == (200, None)
    for change, reason in (("paused", "the first reason"), ("resumed", "all is well")):
        line = next(line for line in service.api_log.splitlines() if "audit" in line and reason in line)
        assert f"change={change}" in line
        assert "an operator" in line
        assert "queue=report_gen" in line
    for what in ("pause", "resume"):
        problem_of(await admin.post("/v1/admin/queues/none/" + what, json={"reason": ""}), "not-found")
        problem_of(await admin.post(f"{queue}/{what}", json={"reason": ""}), "validation")


# --- dead letters


@pytest.fixture
async def letter(alice: httpx.AsyncClient, admin: httpx.AsyncClient, service: Service) -> dict[str, Any]:
    """The dead letter of a task that took too long."""
    order = {"action": "sleep", "seconds": 30, "steps": 1, "timeout_seconds": 0.1, "max_attempts": 1}
    task_id = (await alice.post("/v1/workload", json=order)).json()["task_id"]
    assert (await service.ended(alice, task_id))["status"] == "FAILED"

    async def buried() -> dict[str, Any] | None:
        return next(
            (one for one in await items(admin, "dead-letters", limit=200) if one.get("task_id") == task_id), None
        )

    found = await wait_until(buried, what="the dead letter")
    assert found
    assert found.items() >= {"action": "sleep", "queue": "bench", "reason": "timeout"}.items()
    return found


async def test_a_redriven_letter_is_gone_and_its_task_runs_again(
    letter: dict[str, Any], admin: httpx.AsyncClient, alice: httpx.AsyncClient, service: Service
) -> None:
    redrive = f"/v1/admin/dead-letters/{letter['id']}/redrive"
    answer = await admin.post(redrive, json={"reason": "the disk was mended"})
    assert answer.status_code == 202
    assert answer.json() == {"task_id": letter["task_id"], "runs_again": True}
    line = next(line for line in service.api_log.splitlines() if "audit" in line and letter["id"] in line)
    assert "an operator" in line
    assert "the disk was mended" in line

    async def second_run() -> bool:
        return bool((await admin.get(f"/v1/admin/tasks/{letter['task_id']}")).json()["run"] == 2)

    await wait_until(second_run, what="the second run")
    problem_of(await admin.post(redrive), "not-found")
    assert UUID(letter["task_id"])
    await service.ended(alice, letter["task_id"])


async def test_a_removed_letter_leaves_its_task_as_it_was(
    letter: dict[str, Any], admin: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    purge = f"/v1/admin/dead-letters/{letter['id']}/purge"
    assert (await admin.post(purge)).status_code == 204
    assert letter["id"] not in {one["id"] for one in await items(admin, "dead-letters", limit=200)}
    assert (await alice.get(f"/v1/workload/status/{letter['task_id']}")).json()["status"] == "FAILED"
    problem_of(await admin.post(purge), "not-found")


@pytest.mark.parametrize(
    "body",
    [
        *({"reason": reason} for reason in ("", " ", 1, "x" * 501, "x\0")),
        {"reason": "x", "y": 1},
        {},
        [],
    ],
)
async def test_a_reason_that_is_none_changes_nothing(
    body: Any, letter: dict[str, Any], admin: httpx.AsyncClient
) -> None:
    problem = problem_of(await admin.post(f"/v1/admin/dead-letters/{letter['id']}/purge", json=body), "validation")
    assert problem["errors"][0]["pointer"] == "#/reason"
    assert letter["id"] in {one["id"] for one in await items(admin, "dead-letters", limit=200)}
