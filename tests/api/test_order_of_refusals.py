"""Of several reasons to refuse a request, the contract says which one is told."""

from dataclasses import dataclass, field

import httpx
import pytest

from tests.api.problems import problem_of
from tests.support.service import Service

JSON = {"Content-Type": "application/json"}
TOO_LARGE = b"[" + b" " * 65_536 + b"]"
BAD_KEY = {"Idempotency-Key": ""}


@dataclass(frozen=True)
class Case:
    """A request with several faults, each of which comes later in the order than the one that is told."""

    told: str
    method: str = "POST"
    path: str = "/v1/workload"
    token: str | None = "submit read"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


LARGE_HEADER = {"X-Much": "x" * 33_000}
OF_A_SUBMISSION = {
    "an unknown path is told before everything": Case("not-found", path="/v1/nothing", token=None, body=TOO_LARGE),
    "a method before the token": Case("method-not-allowed", method="PUT", token=None, body=TOO_LARGE),
    "a missing token before the size": Case("unauthorized", token=None, body=TOO_LARGE),
    "a missing token before large headers": Case("unauthorized", token=None, headers=LARGE_HEADER),
    "a scope before the size": Case("insufficient-scope", token="read", body=TOO_LARGE),
    "a scope before large headers": Case("insufficient-scope", token="read", headers=LARGE_HEADER),
    "large headers before the type": Case("headers-too-large", headers=LARGE_HEADER | {"Content-Type": "text/plain"}),
    "the size before the type": Case("payload-too-large", headers={"Content-Type": "text/plain"}, body=TOO_LARGE),
    "the type before what is accepted": Case("unsupported-media-type", headers={"Accept": "text/html"}, body=b""),
    "a content encoding before what is accepted": Case(
        "unsupported-media-type", headers=JSON | {"Content-Encoding": "gzip", "Accept": "text/html"}, body=b"x"
    ),
    "what is accepted before the JSON": Case("not-acceptable", headers=JSON | {"Accept": "text/html"}, body=b"{"),
    "what is accepted before the key": Case(
        "not-acceptable", headers=JSON | BAD_KEY | {"Accept": "text/html"}, body=b"{}"
    ),
    "the JSON before the model": Case("malformed", headers=JSON, body=b'{"action": 1, "action": 2}'),
    "a broken key before the model": Case("malformed", headers=JSON | BAD_KEY, body=b"{}"),
}
OF_A_LIST = {
    "a missing token before the query": Case("unauthorized", "GET", "/v1/workload?limit=0", None),
    "a scope before the query": Case("insufficient-scope", "GET", "/v1/workload?limit=0", "submit"),
    "a scope before large headers": Case("insufficient-scope", "GET", "/v1/workload", "submit", LARGE_HEADER),
    "what is accepted before the query": Case(
        "not-acceptable", "GET", "/v1/workload?limit=0", headers={"Accept": "text/html"}
    ),
    "what is accepted before the cursor": Case(
        "not-acceptable", "GET", "/v1/workload?cursor=x", headers={"Accept": "text/html"}
    ),
    "large headers before what is accepted": Case(
        "headers-too-large", "GET", "/v1/workload", headers=LARGE_HEADER | {"Accept": "text/html"}
    ),
    "a scope before what is accepted, for the catalogue": Case(
        "insufficient-scope", "GET", "/v1/actions", "submit", {"Accept": "text/html"}
    ),
}
UNKNOWN, BROKEN = "550e8400-e29b-41d4-a716-446655440000", "no-uuid"
OF_A_TASK = {
    f"{told}, {name}, {path.format('…')}": Case(told, "GET", path.format(task_id), token)
    for path in ("/v1/workload/status/{}", "/v1/workload/{}/result")
    for name, task_id in (("an unknown id", UNKNOWN), ("no id at all", BROKEN))
    for told, token in (("unauthorized", None), ("insufficient-scope", "submit"), ("not-found", "read"))
}


def _tokens(service: Service, subject: str, name: str | None) -> dict[str, str]:
    if name is None:
        return {}
    scopes = " ".join(f"workload:{scope}" for scope in name.split())
    return {"Authorization": f"Bearer {service.token(subject, scopes=scopes)}"}


@pytest.mark.parametrize("name", OF_A_SUBMISSION | OF_A_LIST | OF_A_TASK)
async def test_the_first_fault_in_the_order_is_told(
    name: str, service: Service, subject: str, anybody: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    case = (OF_A_SUBMISSION | OF_A_LIST | OF_A_TASK)[name]
    headers = case.headers | _tokens(service, subject, case.token)
    answer = await anybody.request(case.method, case.path, headers=headers, content=case.body)
    problem_of(answer, case.told)
    # … and nothing was done.
    assert (await alice.get("/v1/workload")).json() == {"items": []}


async def test_what_is_accepted_is_told_after_what_is_not_there(alice: httpx.AsyncClient) -> None:
    answer = await alice.get(f"/v1/workload/status/{UNKNOWN}", headers={"Accept": "text/html"})
    problem_of(answer, "not-found")
