"""`Prefer: wait`: an answer comes with the end, with the next change, or when the time is over."""

import asyncio
import time
from collections.abc import Awaitable

import httpx
import pytest

from app.store.keys import owner_channel, owner_id
from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.support.service import Service
from tests.support.waiting import wait_until


async def pending_answer(staging: Staging, answer: Awaitable[httpx.Response]) -> asyncio.Task[httpx.Response]:
    """Send a request, and wait until the service waits for news."""
    task = asyncio.ensure_future(answer)
    channel = owner_channel(owner_id(staging.owner)).encode()

    async def subscribed() -> bool:
        return bool(await staging._redis.pubsub_channels(channel.decode()))

    await wait_until(subscribed, what="the service's subscription")
    assert not task.done()
    return task


async def test_without_a_condition_it_waits_for_the_end(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    path = f"/v1/workload/status/{task_id}"
    waiting = await pending_answer(staging, alice.get(path, headers={"Prefer": "wait=9"}))
    await staging.store.beat(task_id, 1, token, progress=50, message=None)
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done, "progress is not the end"
    await staging.end(task_id)
    answer = await waiting
    assert answer.status_code == 200
    assert answer.json()["status"] == "COMPLETED"
    assert answer.headers["preference-applied"] == "wait=9"
    assert answer.json() == (await alice.get(path)).json()


async def test_with_a_condition_it_waits_for_the_next_change(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    path = f"/v1/workload/status/{task_id}"
    etag = (await alice.get(path)).headers["etag"]
    headers = {"Prefer": "wait=9", "If-None-Match": etag}
    waiting = await pending_answer(staging, alice.get(path, headers=headers))
    await staging.store.beat(task_id, 1, token, progress=50, message=None)
    answer = await waiting
    assert answer.status_code == 200
    assert answer.json()["progress"] == 50
    at_once = await alice.get(path, headers=headers)  # it knows an older state
    assert (at_once.status_code, at_once.json()) == (200, answer.json())


@pytest.mark.parametrize("ended", [False, True])
async def test_when_the_time_is_over_it_is_told_as_it_is(
    ended: bool, alice: httpx.AsyncClient, staging: Staging
) -> None:
    task_id = await (staging.failed() if ended else staging.pending())
    path = f"/v1/workload/status/{task_id}"
    plain = await alice.get(path)
    began = time.monotonic()
    answer = await alice.get(path, headers={"Prefer": "wait=1", "If-None-Match": plain.headers["etag"]})
    assert answer.status_code == 304
    assert answer.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - began > 0.9
    if not ended:
        answer = await alice.get(path, headers={"Prefer": "wait=1"})
        assert (answer.status_code, answer.json()) == (200, plain.json())
        assert answer.headers["retry-after"] == "5"


async def test_of_an_ended_task_the_end_is_told_at_once(alice: httpx.AsyncClient, staging: Staging) -> None:
    for task_id in (await staging.completed(b"x"), await staging.failed()):
        answer = await asyncio.wait_for(
            alice.get(f"/v1/workload/status/{task_id}", headers={"Prefer": "wait=50"}), timeout=10
        )
        assert answer.status_code == 200
        assert answer.headers["preference-applied"] == "wait=50"
        assert "Prefer" in answer.headers["vary"]


async def test_a_longer_wait_than_is_allowed_is_cut(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.failed()
    answer = await alice.get(f"/v1/workload/status/{task_id}", headers={"Prefer": "wait=3600"})
    assert answer.headers["preference-applied"] == "wait=50"
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers={"Prefer": "wait=3600"})
    assert answer.headers["preference-applied"] == "wait=8"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=x", "respond-async", "", "wait", "handling=strict"])
async def test_what_asks_for_no_wait_is_answered_at_once(
    prefer: str, alice: httpx.AsyncClient, staging: Staging
) -> None:
    answer = await alice.get(f"/v1/workload/status/{await staging.pending()}", headers={"Prefer": prefer})
    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


async def test_who_may_not_see_a_task_does_not_wait_for_it(bob: httpx.AsyncClient, staging: Staging) -> None:
    answer = await bob.get(f"/v1/workload/status/{await staging.pending()}", headers={"Prefer": "wait=50"})
    problem_of(answer, "not-found")


async def test_a_submission_that_ends_in_time_is_a_200(alice: httpx.AsyncClient) -> None:
    answer = await alice.post(
        "/v1/workload", json={"action": "noop", "id": 1}, headers={"Prefer": "respond-async, wait=8"}
    )
    assert answer.status_code == 200
    ended = answer.json()
    assert ended["status"] == "COMPLETED"
    assert ended.pop("task_token")
    assert answer.headers["preference-applied"] == "wait=8"
    assert "retry-after" not in answer.headers
    assert ended == (await alice.get(answer.headers["location"])).json()


async def test_a_submission_that_does_not_is_a_202(alice: httpx.AsyncClient) -> None:
    order = {"action": "sleep", "seconds": 4, "steps": 1}
    answer = await alice.post("/v1/workload", json=order, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["status"] in ("PENDING", "PROCESSING")
    assert answer.headers["retry-after"] == "5"
    await alice.post(f"/v1/workload/{answer.json()['task_id']}/cancel")


async def test_a_token_that_may_only_submit_may_wait_for_its_submission(service: Service, subject: str) -> None:
    async with service.client(subject, scopes="workload:submit") as client:
        answer = await client.post("/v1/workload", json={"action": "noop", "id": 1}, headers={"Prefer": "wait=8"})
        assert answer.status_code == 200


async def test_a_replay_of_an_ended_task_is_a_200_only_if_it_was_asked_to_wait(alice: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers=headers | {"Prefer": "wait=8"})
    assert first.status_code == 200
    again = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers=headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    waited = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers=headers | {"Prefer": "wait=8"})
    assert (waited.status_code, waited.json()["task_id"]) == (200, first.json()["task_id"])


async def test_a_caller_who_goes_away_is_not_waited_for(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.pending()
    waiting = await pending_answer(staging, alice.get(f"/v1/workload/status/{task_id}", headers={"Prefer": "wait=50"}))
    waiting.cancel()
    channel = owner_channel(owner_id(staging.owner))

    async def left() -> bool:
        return not await staging._redis.pubsub_channels(channel)

    await wait_until(left, what="the end of the subscription")
