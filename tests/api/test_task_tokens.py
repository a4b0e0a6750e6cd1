"""The task_token of a submission: it opens that task, and nothing else at all."""

from uuid import uuid4

import httpx
import pytest
from jose import jwt

from app.domain.task import Owner
from app.main import task_token_keys
from app.security.tokens import TaskTokenIssuer
from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.security.forging import good_claims, sign, with_wrong_claims, with_wrong_headers, with_wrong_shape
from tests.support.service import Service


@pytest.fixture
def issuer(service: Service) -> TaskTokenIssuer:
    """The service's own issuer of task tokens."""
    settings = service.settings
    return TaskTokenIssuer(
        keys=task_token_keys(settings), issuer=settings.jwt.issuer, audience=settings.jwt.audience, ttl_seconds=600
    )


async def test_it_opens_its_own_task(anybody: httpx.AsyncClient, staging: Staging, issuer: TaskTokenIssuer) -> None:
    task_id = await staging.completed(b"content")
    anybody.headers["authorization"] = f"Bearer {issuer.issue(task_id, staging.owner)}"
    assert (await anybody.get(f"/v1/workload/status/{task_id}")).json()["task_id"] == str(task_id)
    assert (await anybody.get(f"/v1/workload/{task_id}/result")).content == b"content"


def test_it_is_signed_as_a_library_for_tokens_signs_it(service: Service, issuer: TaskTokenIssuer) -> None:
    """It is made without one, for speed: byte for byte the same."""
    task_id = uuid4()
    token = issuer.issue(task_id, Owner(issuer="https://identity.example", subject="zoë"))
    header, claims = jwt.get_unverified_header(token), jwt.get_unverified_claims(token)
    key = task_token_keys(service.settings).key(header["kid"], task_id, claims["scope"])
    extra = {name: header[name] for name in ("kid", "typ")}
    assert token == jwt.encode(claims, key, algorithm="HS256", headers=extra)


async def test_another_task_of_the_same_owner_is_not_there(
    anybody: httpx.AsyncClient, staging: Staging, issuer: TaskTokenIssuer
) -> None:
    mine, other = await staging.completed(b"mine"), await staging.completed(b"other")
    anybody.headers["authorization"] = f"Bearer {issuer.issue(mine, staging.owner)}"
    for task_id in (other, uuid4(), "no-uuid"):
        problem_of(await anybody.get(f"/v1/workload/status/{task_id}"), "not-found")
        problem_of(await anybody.get(f"/v1/workload/{task_id}/result"), "not-found")


async def test_other_routes_are_forbidden(
    alice: httpx.AsyncClient, anybody: httpx.AsyncClient, staging: Staging, issuer: TaskTokenIssuer
) -> None:
    task_id = await staging.pending()
    anybody.headers["authorization"] = f"Bearer {issuer.issue(task_id, staging.owner)}"
    problem_of(await anybody.post("/v1/workload", json={"action": "noop", "id": 1}), "insufficient-scope")
    problem_of(await anybody.get("/v1/workload"), "insufficient-scope")
    problem_of(await anybody.get("/v1/actions"), "insufficient-scope")
    assert len((await alice.get("/v1/workload")).json()["items"]) == 1


async def test_it_opens_nothing_for_whom_the_task_is_not(
    anybody: httpx.AsyncClient, staging: Staging, issuer: TaskTokenIssuer
) -> None:
    """A token whose owner and task do not belong together, should one ever be made."""
    task_id = await staging.pending()
    stranger = type(staging.owner)(staging.owner.issuer, "mallory")
    anybody.headers["authorization"] = f"Bearer {issuer.issue(task_id, stranger)}"
    problem_of(await anybody.get(f"/v1/workload/status/{task_id}"), "not-found")


async def test_it_lasts_a_week(service: Service, alice: httpx.AsyncClient) -> None:
    token = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()["task_token"]
    claims = jwt.get_unverified_claims(token)
    assert claims["exp"] - claims["iat"] == service.settings.task_token_ttl_hours * 3600 == 168 * 3600


async def test_the_forged_token_corpus_is_401_at_the_door(service: Service, anybody: httpx.AsyncClient) -> None:
    """What tests/security shows of the verifier holds over the wire: never a 500, and the log stays free of it."""
    assert service.settings.jwt.secret
    key = service.settings.jwt.secret.get_secret_value().encode()
    corpus = with_wrong_claims(key) | with_wrong_headers(key) | with_wrong_shape(sign(good_claims(), key))
    for name, token in corpus.items():
        try:
            value = b"Bearer " + token.encode("utf-8")
        except UnicodeEncodeError:
            continue  # cannot be sent
        if any(byte < 0x20 for byte in value):
            continue
        answer = await anybody.get("/v1/workload", headers=[(b"Authorization", value)])
        assert answer.status_code == 401, (name, answer.text)
        problem_of(answer, "unauthorized")
    good = sign(good_claims(), key)
    assert (await anybody.get("/v1/workload", headers={"Authorization": f"Bearer {good}"})).status_code == 200
