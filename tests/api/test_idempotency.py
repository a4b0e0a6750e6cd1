"""Idempotency-Key: one caller, one key, one task, however often it is asked for."""

import asyncio
import time
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.security.sealing import Sealer
from app.service.submission import derived_task_id, fingerprint_of
from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.support.service import Service

NOOP = {"action": "noop", "id": 1}


async def submit(client: httpx.AsyncClient, key: str | bytes, body: Any = NOOP) -> httpx.Response:
    """Submit under a key, as it stands."""
    value = key.encode() if isinstance(key, str) else key
    return await client.post("/v1/workload", json=body, headers=[(b"Idempotency-Key", value)])


async def ids(client: httpx.AsyncClient) -> list[str]:
    """Return the ids of the caller's tasks."""
    return [task["task_id"] for task in (await client.get("/v1/workload")).json()["items"]]


async def test_a_replay_is_the_same_task_as_it_is_now_with_a_fresh_token(
    service: Service, alice: httpx.AsyncClient
) -> None:
    first = await submit(alice, "k")
    assert first.status_code == 202
    assert "idempotent-replayed" not in first.headers
    task_id = first.json()["task_id"]
    ended = await service.ended(alice, task_id)
    await asyncio.sleep(1.05)  # a token's times are whole seconds
    again = await submit(alice, "k")
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    shown = again.json()
    token = shown.pop("task_token")
    assert shown == ended
    assert token != first.json()["task_token"]
    opened = await alice.get(first.headers["location"], headers={"Authorization": f"Bearer {token}"})
    assert opened.json() == ended
    assert await ids(alice) == [task_id]


async def test_the_id_says_that_it_was_derived(alice: httpx.AsyncClient) -> None:
    """RFC 9562: version 8 under a key, version 4 without one."""
    assert UUID((await submit(alice, "k")).json()["task_id"]).version == 8
    assert UUID((await alice.post("/v1/workload", json=NOOP)).json()["task_id"]).version == 4


SAME = {
    "quoted": ("abc", '"abc"'),
    "a quote inside": ('a"b', '"a\\"b"'),
    "a backslash inside": ("a\\b", '"a\\\\b"'),
    "every character": ("".join(map(chr, range(0x21, 0x7F))), '"{}"'),
    "255 characters": ("a" * 255, '"' + "a" * 255 + '"'),
}


@pytest.mark.parametrize("name", SAME)
async def test_the_quoted_form_and_the_bare_one_are_one_key(name: str, alice: httpx.AsyncClient) -> None:
    bare, other = SAME[name]
    other = other.replace("{}", bare.replace("\\", "\\\\").replace('"', '\\"'))
    first, again = await submit(alice, bare), await submit(alice, other)
    assert (first.status_code, again.status_code) == (202, 202), again.text
    assert first.json()["task_id"] == again.json()["task_id"]
    assert again.headers["idempotent-replayed"] == "true"


async def test_letters_of_another_case_are_another_key(alice: httpx.AsyncClient) -> None:
    for key in ("k", "K", "k1", '"', "''"):
        assert "idempotent-replayed" not in (await submit(alice, key)).headers
    assert len(set(await ids(alice))) == 5


BROKEN = {
    "empty": b"", "empty quotes": b'""', "256 characters": b"a" * 256,
    "256 characters, quoted": b'"' + b"a" * 256 + b'"', "a blank inside": b"a b", "a blank inside quotes": b'"a b"',
    "a tab inside": b"a\tb", "UTF-8": "schlüssel".encode(), "Latin-1": b"schl\xfcssel", "a no-break space": b"\xa0abc",
    "a next-line character": b"abc\x85",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_key_is_refused_and_nothing_is_accepted(name: str, alice: httpx.AsyncClient) -> None:
    problem = problem_of(await submit(alice, BROKEN[name]), "malformed")
    assert "Idempotency-Key" in problem["detail"]
    assert await ids(alice) == []


async def test_a_repeated_header_is_refused_even_if_it_says_the_same(alice: httpx.AsyncClient) -> None:
    for other in ("k", "l"):
        headers = [("Idempotency-Key", "k"), ("Idempotency-Key", other)]
        problem_of(await alice.post("/v1/workload", json=NOOP, headers=headers), "malformed")
    assert await ids(alice) == []


OTHER_BODIES: list[dict[str, Any]] = [
    {"action": "noop", "id": 2},
    {"action": "noop", "id": 1, "labels": []},
    {"action": "noop", "id": 1, "labels": ["a"]},
    {"action": "sleep", "seconds": 0},
]


@pytest.mark.parametrize("body", OTHER_BODIES)
async def test_another_body_is_refused_and_the_first_task_stands(body: Any, alice: httpx.AsyncClient) -> None:
    first = (await submit(alice, "k")).json()
    problem_of(await submit(alice, "k", body), "idempotency-key-reused")
    assert await ids(alice) == [first["task_id"]]
    assert (await submit(alice, "k")).json()["task_id"] == first["task_id"]


async def test_the_same_body_in_another_spelling_is_the_same_body(alice: httpx.AsyncClient) -> None:
    """The fingerprint is that of the canonical form (RFC 8785)."""
    json = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    for body in (
        b'{"action":"sleep","seconds":0.5,"labels":["a"]}',
        b' { "labels" : ["\\u0061"], "seconds": 5e-1, "action": "sl\\u0065ep" }',
        b'{"seconds":0.50,"action":"sleep","labels":["a"]}',
    ):
        assert (await alice.post("/v1/workload", content=body, headers=json)).status_code == 202
    assert len(await ids(alice)) == 1


async def test_another_callers_key_is_another_key(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    mine, theirs = await submit(alice, "k"), await submit(bob, "k", {"action": "noop", "id": 2})
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert "idempotent-replayed" not in theirs.headers
    assert await ids(alice) == [mine.json()["task_id"]]
    assert await ids(bob) == [theirs.json()["task_id"]]
    problem_of(await bob.get(mine.headers["location"]), "not-found")


async def test_without_a_key_each_request_is_a_task(alice: httpx.AsyncClient) -> None:
    for _ in range(2):
        await alice.post("/v1/workload", json=NOOP)
    assert len(await ids(alice)) == 2


async def test_a_hundred_racing_requests_with_one_key_make_one_task(service: Service, alice: httpx.AsyncClient) -> None:
    slow = {"action": "sleep", "seconds": 0.5, "steps": 1, "labels": ["race"]}
    answers = await asyncio.gather(*(submit(alice, "k", slow) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    [task_id] = await ids(alice)
    ended = await service.ended(alice, task_id)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 1)
    started = [line for line in service.worker_log.splitlines() if task_id in line and "started" in line]
    assert len(started) == 1


async def test_another_body_is_refused_while_the_first_is_still_on_its_way(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    """Between its creation and its confirm a task is seen by nobody, but its key is taken."""
    started = staging.envelope(task_id=derived_task_id(staging.owner, "k"), fingerprint=fingerprint_of(NOOP))
    await staging.store.create(started, b"sealed")
    problem_of(await submit(alice, "k", {"action": "noop", "id": 2}), "idempotency-key-reused")
    assert await ids(alice) == []


async def test_the_same_body_takes_over_from_a_request_that_was_lost_on_its_way(
    service: Service, alice: httpx.AsyncClient, staging: Staging
) -> None:
    """An API that died between creation and publishing leaves nothing in the way."""
    started = staging.envelope(task_id=derived_task_id(staging.owner, "k"), fingerprint=fingerprint_of(NOOP))
    await staging.store.create(started, b"sealed")
    answer = await submit(alice, "k")
    assert answer.status_code == 202
    assert (await service.ended(alice, answer.json()["task_id"]))["status"] == "COMPLETED"
    assert await ids(alice) == [str(started.task_id)]


async def test_a_retry_of_what_another_request_had_begun_is_the_same_task_of_the_same_time(
    service: Service, alice: httpx.AsyncClient, staging: Staging
) -> None:
    """Two requests raced: the task is of the first one's time, and ran by the second one's message."""
    order = {"action": "sleep", "seconds": 30, "steps": 1}
    begun = staging.envelope(
        task_id=derived_task_id(staging.owner, "k"),
        action="sleep",
        fingerprint=fingerprint_of(order),
        created_at=time.time_ns() // 1_000_000 - 5_000,
    )
    sealer = Sealer({name: key.get_secret_value() for name, key in service.settings.encryption_keys.items()})
    await staging.store.create(begun, sealer.seal_order(begun))
    task_id = (await submit(alice, "k", order)).json()["task_id"]
    path = f"/v1/workload/{task_id}"
    await alice.post(f"{path}/cancel")
    ended = await service.ended(alice, task_id)
    again = (await alice.post(f"{path}/retry")).json()
    assert again["created_at"] == ended["created_at"]
    assert await ids(alice) == [task_id], "in the list once, not in two places"
    await alice.post(f"{path}/cancel")
    await service.ended(alice, task_id)
