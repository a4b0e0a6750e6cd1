"""Server-sent events: the task as it is, its log, what is newer, the end; then a 204, so that a browser stops."""

import asyncio
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.api.streaming import streaming
from tests.support.service import Service
from tests.support.waiting import wait_until


async def test_a_task_is_followed_to_its_end(alice: httpx.AsyncClient) -> None:
    task = (await alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.6, "steps": 3})).json()
    async with streaming(alice, task["task_id"], headers={"Accept": "text/event-stream"}) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["x-accel-buffering"] == "no"
        assert stream.response.headers["cache-control"] == "no-store"
        assert re.fullmatch(r"[0-9a-f]{32}", stream.response.headers["x-request-id"])
        messages = await stream.rest()
    assert stream.fields[0] == ("retry", "3000")
    assert {message.event for message in messages} == {"status"}
    assert [message.id for message in messages] == [f"{message.data['seq']}.0" for message in messages]
    seqs = [message.data["seq"] for message in messages]
    assert seqs == sorted(set(seqs))
    assert messages[-1].data == (await alice.get(task["links"]["self"]["href"])).json()
    assert messages[-1].data["status"] == "COMPLETED"
    assert task["links"]["events"] == {"href": f"/v1/workload/{task['task_id']}/events"}


async def test_after_the_end_a_reconnection_is_answered_204(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.failed()
    async with streaming(alice, task_id) as stream:
        (end,) = await stream.rest()
    path = f"/v1/workload/{task_id}/events"
    again = await alice.get(path, headers={"Last-Event-ID": end.id})
    assert (again.status_code, again.content) == (204, b"")
    earlier = f"{end.data['seq'] - 1}.0"
    for last in (earlier, "nonsense", "", "1", f"{end.data['seq']}", "-1.0", "9" * 40 + ".1"):
        answer = await alice.get(path, headers={"Last-Event-ID": last})
        assert (answer.status_code, answer.text.count("event: status")) == (200, 1), last


async def test_lines_come_in_order_and_all_before_the_end(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    await staging.log(task_id, token, "one", "two")
    async with streaming(alice, task_id) as stream:
        first = await stream.next()
        assert first.event == "status"
        assert (await stream.next()).data["message"] == "one"
        second = await stream.next()
        assert second.id == f"{first.data['seq']}.2"
        assert second.data.keys() == {"task_id", "line", "time", "level", "message"}
        assert (second.data["line"], second.data["level"]) == (2, "info")
        await staging.log(task_id, token, *[f"line {number}" for number in range(3, 500)])
        await staging.end(task_id)
        messages = await stream.rest()
    lines = [message.data["line"] for message in messages if message.event == "log"]
    assert lines == list(range(1, 500))
    assert messages[-1].data["status"] == "COMPLETED"
    assert messages[-1].id == f"{messages[-1].data['seq']}.499"


async def test_who_comes_again_goes_on_after_the_last_line(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    await staging.log(task_id, token, *"abcdef")
    async with streaming(alice, task_id) as stream:
        while (last := await stream.next()).data.get("line") != 3:
            pass
    async with streaming(alice, task_id, headers={"Last-Event-ID": last.id}) as stream:
        assert (await stream.next()).event == "status"  # the current document comes first
        assert (await stream.next()).data["line"] == 4
    await staging.end(task_id)
    async with streaming(alice, task_id, headers={"Last-Event-ID": last.id}) as stream:
        messages = await stream.rest()
    assert [message.data.get("line") for message in messages] == [4, 5, 6, None]
    assert (await alice.get(f"/v1/workload/{task_id}/events", headers={"Last-Event-ID": messages[-1].id})).is_success
    async with streaming(alice, task_id) as stream:  # the log of an ended task is read over HTTP
        assert [message.event for message in await stream.rest()] == ["status"]


async def test_a_reader_who_leaves_frees_what_it_held(
    service: Service, alice: httpx.AsyncClient, staging: Staging
) -> None:
    async def channels() -> set[Any]:
        return {*await staging._redis.pubsub_channels("longhaul:*")}

    before = await channels()
    async with streaming(alice, await staging.pending()) as stream:
        await stream.next()
        assert await channels() - before

    async def left() -> bool:
        return not await channels() - before

    await wait_until(left, what="the end of the subscription")


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/*", "application/json", "a/b, text/event-stream"])
async def test_a_stream_is_served_to_who_takes_it(accept: str, alice: httpx.AsyncClient, staging: Staging) -> None:
    async with streaming(alice, await staging.failed(), headers={"Accept": accept}) as stream:
        assert stream.response.status_code == 200


async def test_refusals_are_problems_before_the_stream(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, anybody: httpx.AsyncClient, service: Service, subject: str,
    staging: Staging,
) -> None:  # fmt: skip
    task_id = await staging.pending()
    path = f"/v1/workload/{task_id}/events"
    problem_of(await anybody.get(path), "unauthorized")
    problem_of(await bob.get(path), "not-found")
    problem_of(await alice.get(f"/v1/workload/{uuid4()}/events"), "not-found")
    problem_of(await alice.get("/v1/workload/nonsense/events"), "not-found")
    problem_of(await alice.get(path, headers={"Accept": "text/html"}), "not-acceptable")
    anybody.headers["authorization"] = f"Bearer {service.token(subject, scopes='workload:submit')}"
    problem_of(await anybody.get(path), "insufficient-scope")


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
async def test_there_is_only_get(method: str, service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.base_url) as client:
        answer = await client.request(method, f"/v1/workload/{uuid4()}/events")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


async def test_a_task_token_opens_its_own_stream_only(alice: httpx.AsyncClient, staging: Staging) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    alice.headers["authorization"] = f"Bearer {task['task_token']}"
    async with streaming(alice, task["task_id"]) as stream:
        assert (await stream.rest())[-1].data["status"] == "COMPLETED"
    problem_of(await alice.get(f"/v1/workload/{await staging.pending()}/events"), "not-found")


async def test_a_stream_ends_when_its_token_does(
    service: Service, subject: str, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    anybody.headers["authorization"] = f"Bearer {service.token(subject, ttl_seconds=2)}"
    async with asyncio.timeout(10), streaming(anybody, await staging.pending()) as stream:
        assert len(await stream.rest()) == 1
