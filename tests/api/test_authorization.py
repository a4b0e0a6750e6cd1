"""Who may ask (RFC 6750): a refusal says how to come in, and says no more than that."""

import httpx
import pytest

from tests.api.problems import problem_of
from tests.support.service import Service

REALM = 'Bearer realm="longhaul"'
INVALID = f'{REALM}, error="invalid_token"'

NO_TOKEN: dict[str, list[str]] = {
    "nothing": [],
    "an empty header": [""],
    "another scheme": ["Basic YWxpY2U6c2VjcmV0"],
    "a scheme that only begins so": ["Bearerx {token}"],
    "a scheme without a token": ["Bearer"],
    "a bare token": ["{token}"],
    "the header twice": ["Bearer {token}", "Bearer {token}"],
    "the header twice, once with another scheme": ["Bearer {token}", "Basic YWxpY2U6c2VjcmV0"],
}
BAD_TOKEN = {
    "a word": "Bearer token",
    "a longer token": "Bearer {token}x",
    "two tokens": "Bearer {token} {token}",
    "two tokens in a list": "Bearer {token}, Bearer {token}",
    "a token in braces": "Bearer {{{token}}}",
    "a quoted token": 'Bearer "{token}"',
    "9 KiB": "Bearer " + "a" * 4_500 + "." + "a" * 4_500 + ".a",
}


@pytest.mark.parametrize("name", NO_TOKEN)
async def test_without_a_token_the_answer_says_how_and_names_no_error(
    name: str, service: Service, subject: str, anybody: httpx.AsyncClient
) -> None:
    token = service.token(subject)
    headers = [("Authorization", value.format(token=token)) for value in NO_TOKEN[name]]
    answer = await anybody.get("/v1/workload", headers=headers)
    problem_of(answer, "unauthorized")
    assert answer.headers["www-authenticate"] == REALM


@pytest.mark.parametrize("name", BAD_TOKEN)
async def test_a_bad_token_is_called_so(name: str, service: Service, subject: str, anybody: httpx.AsyncClient) -> None:
    value = BAD_TOKEN[name].format(token=service.token(subject))
    answer = await anybody.get("/v1/workload", headers={"Authorization": value})
    problem = problem_of(answer, "unauthorized")
    assert answer.headers["www-authenticate"] == INVALID
    assert problem["detail"] == "The bearer token is not valid."


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}"])
async def test_the_scheme_is_known_in_any_case(
    form: str, service: Service, subject: str, anybody: httpx.AsyncClient
) -> None:
    headers = {"Authorization": form.format(service.token(subject))}
    assert (await anybody.get("/v1/workload", headers=headers)).status_code == 200


async def test_a_token_in_the_query_is_none(service: Service, subject: str, anybody: httpx.AsyncClient) -> None:
    for name in ("access_token", "token", "ticket"):
        answer = await anybody.get("/v1/workload", params={name: service.token(subject)})
        problem_of(answer, "unauthorized")


ROUTES = {
    "submit": ("POST", "/v1/workload"),
    "list": ("GET", "/v1/workload"),
    "actions": ("GET", "/v1/actions"),
    "status": ("GET", "/v1/workload/status/{task_id}"),
    "result": ("GET", "/v1/workload/{task_id}/result"),
}
READING = {"list": 200, "actions": 200, "status": 200, "result": 404}  # noop makes no file
SCOPES: dict[str | None, dict[str, int]] = {
    None: {"submit": 202, **READING},
    "": {},
    "workload:submit": {"submit": 202},
    "workload:read": READING,
    "workload:admin": {},
    "workload:submit workload:read": {"submit": 202, **READING},
    "openid  workload:read   email": READING,
    "WORKLOAD:READ": {},
    "workload:read,workload:submit": {},
    "workload": {},
}


@pytest.mark.parametrize("scopes", SCOPES)
async def test_a_scope_opens_its_routes_and_no_other(
    scopes: str | None, service: Service, subject: str, alice: httpx.AsyncClient, anybody: httpx.AsyncClient
) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    await service.ended(alice, task["task_id"])
    anybody.headers["authorization"] = f"Bearer {service.token(subject, scopes=scopes)}"
    for name, (method, path) in ROUTES.items():
        body = {"json": {"action": "noop", "id": 2}} if method == "POST" else {}
        answer = await anybody.request(method, path.format(task_id=task["task_id"]), **body)  # type: ignore[arg-type]
        expected = SCOPES[scopes].get(name, 403)
        assert answer.status_code == expected, (name, answer.text)
        if expected == 403:
            problem_of(answer, "insufficient-scope")
            needed = "workload:submit" if name == "submit" else "workload:read"
            assert answer.headers["www-authenticate"] == f'{REALM}, error="insufficient_scope", scope="{needed}"'
    submitted = 1 + ("submit" in SCOPES[scopes])
    assert len((await alice.get("/v1/workload")).json()["items"]) == submitted


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs", "/problems", "/problems/gone"])
async def test_what_is_public_asks_for_no_token(path: str, anybody: httpx.AsyncClient) -> None:
    assert (await anybody.get(path)).status_code == 200
    bad = {"Authorization": "Bearer nonsense"}
    assert (await anybody.get(path, headers=bad)).status_code == 200
