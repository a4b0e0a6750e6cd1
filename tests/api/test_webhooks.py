"""The door of webhooks: what is refused at submission, who may see attempts, and what a link opens."""

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from app.security.links import ResultLinks
from app.security.sealing import Sealer
from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.api.test_authorization import REALM
from tests.support.receivers import receiver
from tests.support.service import Service
from tests.support.waiting import wait_until
from tests.webhooks.hostile import HOSTILE

NOOP = {"action": "noop", "id": 1}
OPEN_IN_DEVELOPMENT = {"http://127.0.0.1/", "http://127.0.0.1:8080/", "http://127.0.0.1:22/", "http://127.0.0.1./"}
REFUSED = sorted(set(HOSTILE) - OPEN_IN_DEVELOPMENT)
NEEDS_NAMES = ("example.com/", "nip.io/", "google.internal", "localhost.localdomain")
"""These are refused by what a name server answers, and the tests' machine may have none."""


@pytest.mark.parametrize("url", [url for url in REFUSED if not any(name in url for name in NEEDS_NAMES) or "@" in url])
async def test_a_hostile_callback_is_refused_and_named(url: str, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", json={**NOOP, "callback_url": url})
    problem = problem_of(answer, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["#/callback_url"]
    assert (await alice.get("/v1/workload")).json()["items"] == []
    answer = await alice.post("/v1/webhooks/test", json={"callback_url": url})
    assert [error["pointer"] for error in problem_of(answer, "validation")["errors"]] == ["#/callback_url"]


async def test_a_name_that_does_not_resolve_yet_is_taken(alice: httpx.AsyncClient) -> None:
    order = {**NOOP, "callback_url": "https://not-yet.invalid/hook", "delay_seconds": 3600}
    answer = await alice.post("/v1/workload", json=order)
    assert answer.status_code == 202
    assert answer.json()["webhook"] == {"state": "waiting", "attempts": 0}
    await alice.post(f"/v1/workload/{answer.json()['task_id']}/cancel")


async def test_events_need_a_receiver(alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", json={**NOOP, "callback_events": ["started"]})
    assert [error["pointer"] for error in problem_of(answer, "validation")["errors"]] == ["#/callback_events"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/callback_url"),
        ({"callback_url": 1}, "#/callback_url"),
        ({"callback_url": "http://x", "y": 1}, "#/y"),
        ([], "#"),
    ],
)
async def test_a_test_wants_one_field(body: object, pointer: str, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/webhooks/test", json=body)
    assert [error["pointer"] for error in problem_of(answer, "validation")["errors"]] == [pointer]


async def test_anothers_attempts_are_those_of_an_unknown_task(
    service: Service, alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    async with receiver() as hook:
        task = (await alice.post("/v1/workload", json={**NOOP, "callback_url": hook.url})).json()
        path = f"/v1/workload/{task['task_id']}/deliveries"

        async def attempts() -> list[dict[str, object]]:
            items: list[dict[str, object]] = (await alice.get(path)).json()["items"]
            return items

        (attempt,) = await wait_until(attempts, timeout=30, what="an attempt")
        unknown = f"/v1/workload/{uuid4()}/deliveries"
        for mine, other in (
            (path, unknown),
            (f"{path}/{attempt['id']}/redeliver", f"{unknown}/{attempt['id']}/redeliver"),
        ):
            method = "POST" if mine.endswith("redeliver") else "GET"
            foreign, missing = await bob.request(method, mine), await bob.request(method, other)
            first, second = problem_of(foreign, "not-found"), problem_of(missing, "not-found")
            for varying in ("instance", "request_id"):
                first.pop(varying)
                second.pop(varying)
            assert first == second
        for wrong in (f"{path}/{uuid4()}/redeliver", f"{path}/x/redeliver"):
            problem_of(await alice.post(wrong), "not-found")
        assert len(hook.received) == 1
        assert (await alice.post(f"{path}/{str(attempt['id']).upper()}/redeliver")).status_code == 202

        async def again() -> bool:
            return len(hook.received) == 2

        await wait_until(again, timeout=30, what="the redelivery")


async def test_secrets_are_everybodys_own(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    mine = await alice.get("/v1/webhooks/secret")
    assert mine.headers["cache-control"] == "no-store"
    assert (await alice.get("/v1/webhooks/secret")).json() == mine.json()
    theirs = (await bob.get("/v1/webhooks/secret")).json()
    assert theirs["secret"] != mine.json()["secret"]
    await alice.post("/v1/webhooks/secret/rotate")
    assert (await bob.get("/v1/webhooks/secret")).json() == theirs


ROUTES = (
    ("GET", "/v1/workload/{task_id}/deliveries", "workload:read"),
    ("POST", "/v1/workload/{task_id}/deliveries/550e8400-e29b-41d4-a716-446655440000/redeliver", "workload:submit"),
    ("GET", "/v1/webhooks/secret", "workload:submit"),
    ("POST", "/v1/webhooks/secret/rotate", "workload:submit"),
    ("POST", "/v1/webhooks/test", "workload:submit"),
)


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_each_route_wants_a_token_of_its_scope_and_no_task_token(
    method: str,
    path: str,
    scope: str,
    service: Service,
    subject: str,
    alice: httpx.AsyncClient,
    anybody: httpx.AsyncClient,
) -> None:
    task = (await alice.post("/v1/workload", json={**NOOP, "delay_seconds": 3600})).json()
    path = path.format(task_id=task["task_id"])
    problem_of(await anybody.request(method, path), "unauthorized")
    other = "workload:read" if scope == "workload:submit" else "workload:submit"
    for token in (service.token(subject, scopes=other), task["task_token"]):
        anybody.headers["authorization"] = f"Bearer {token}"
        problem_of(await anybody.request(method, path), "insufficient-scope")
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")


@pytest.fixture
def links(service: Service) -> ResultLinks:
    """The service's own signer."""
    keys = {name: key.get_secret_value() for name, key in service.settings.encryption_keys.items()}
    return ResultLinks(Sealer(keys).derived_keys("result links"))


async def test_a_link_opens_one_result_until_its_time_is_over(
    anybody: httpx.AsyncClient, staging: Staging, links: ResultLinks
) -> None:
    task_id, other = await staging.completed(b"content"), await staging.completed(b"other")
    soon = datetime.now(UTC) + timedelta(hours=1)
    query = links.query(task_id, soon)
    path = f"/v1/workload/{task_id}/result"
    assert (await anybody.get(f"{path}?{query}")).content == b"content"
    assert (await anybody.get(f"/v1/workload/{str(task_id).upper()}/result?{query}")).content == b"content"
    for wrong in (
        f"/v1/workload/{other}/result?{query}",
        f"/v1/workload/{uuid4()}/result?{query}",
        f"{path}?{query}0",
        f"{path}?{query.replace('expires=', 'expires=0')}",
        f"{path}?{query.partition('&')[0]}",
        f"{path}?{query.partition('&')[2]}",
        f"{path}?expires=%C3%A9&signature=%C3%A9",
        path,
    ):
        problem_of(await anybody.get(wrong), "unauthorized")
        assert (await anybody.get(wrong)).headers["www-authenticate"] == REALM
    over = links.query(task_id, datetime.fromtimestamp(time.time() - 1, tz=UTC))
    problem_of(await anybody.get(f"{path}?{over}"), "gone")
    problem_of(await anybody.get(f"{path}?{over}0"), "unauthorized")


async def test_a_link_of_a_task_that_is_gone_opens_nothing(
    anybody: httpx.AsyncClient, links: ResultLinks, staging: Staging
) -> None:
    query = links.query(unknown := uuid4(), datetime.now(UTC) + timedelta(hours=1))
    problem_of(await anybody.get(f"/v1/workload/{unknown}/result?{query}"), "not-found")
    failed = await staging.failed()
    query = links.query(failed, datetime.now(UTC) + timedelta(hours=1))
    problem_of(await anybody.get(f"/v1/workload/{failed}/result?{query}"), "conflict")


async def test_a_token_is_asked_before_a_link(bob: httpx.AsyncClient, staging: Staging, links: ResultLinks) -> None:
    task_id = await staging.completed(b"content")
    query = links.query(task_id, datetime.now(UTC) + timedelta(hours=1))
    problem_of(await bob.get(f"/v1/workload/{task_id}/result?{query}"), "not-found")


def test_what_an_older_key_signed_is_good_after_a_rotation() -> None:
    old, new = b"o" * 32, b"n" * 32
    task_id, soon = uuid4(), datetime.now(UTC) + timedelta(hours=1)
    query = ResultLinks(Sealer({"old": old}).derived_keys("result links")).query(task_id, soon)
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    ResultLinks(Sealer({"new": new, "old": old}).derived_keys("result links")).require_good(task_id, expires, signature)
