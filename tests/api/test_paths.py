"""Paths: methods, HEAD, ids, and what is not there. Nothing ever redirects."""

from uuid import uuid4

import httpx
import pytest

from tests.api.problems import problem_of
from tests.api.staging import Staging

SOME_ID = "550e8400-e29b-41d4-a716-446655440000"
ALLOWED = {
    "/v1/workload": "GET, HEAD, POST",
    f"/v1/workload/status/{SOME_ID}": "GET, HEAD",
    f"/v1/workload/{SOME_ID}/result": "GET, HEAD",
    f"/v1/workload/{SOME_ID}/cancel": "POST",
    f"/v1/workload/{SOME_ID}/retry": "POST",
    f"/v1/workload/{SOME_ID}": "DELETE",
    "/v1/actions": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/problems": "GET, HEAD",
    "/problems/gone": "GET, HEAD",
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_a_405_lists_every_method_of_the_path(path: str, anybody: httpx.AsyncClient) -> None:
    for method in {"PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "POST"} - set(ALLOWED[path].split(", ")):
        answer = await anybody.request(method, path)
        problem_of(answer, "method-not-allowed")
        assert answer.headers["allow"] == ALLOWED[path]


NOT_THERE = [
    "/", "/v1", "/v1/", "/v1/workload/", "/v1/workload//", "/x//v1/workload", "/V1/workload", "/v1/Workload",
    "/v1/workload.json", "/v1/workload/status", "/v1/workload/status/", "/v1/actions/", "/healthz/", "/readyz/",
    "/docs/", "/docs/assets/index.css", "/static/", "/static/..%2fpages.py", "/problems/",
    "/problems/no-such", "/problems/gone/", "/openapi.json/", "/redoc", "/docs/oauth2-redirect", "/favicon.ico",
]  # fmt: skip
LATER = [
    ("POST", "/v1/workload/batch"), ("POST", "/v1/uploads"), ("GET", "/metrics"), ("GET", "/v1/workload/{id}/ws"),
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_THERE)
async def test_what_is_not_there_is_a_404_and_never_a_redirect(path: str, alice: httpx.AsyncClient) -> None:
    problem_of(await alice.get(path), "not-found")


@pytest.mark.parametrize(("method", "path"), LATER)
async def test_what_is_still_to_come_is_not_there(method: str, path: str, alice: httpx.AsyncClient) -> None:
    problem_of(await alice.request(method, path.format(id=uuid4())), "not-found")


NO_ID = [
    "1", "x", "None", "undefined", "{id}x", "{{{id}}}", "urn:uuid:{id}", "{hex}", "%20{id}", "{id}%0a", "{id}%00",
    "..%2f{id}", "{id}%2fresult", "%7B{id}%7D", "é", "%ff", "{id}".replace("id", "short"), "status",
]  # fmt: skip


@pytest.mark.parametrize("form", NO_ID)
async def test_an_id_that_is_no_uuid_is_not_found(form: str, alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.completed(b"content")
    name = form.format(id=task_id, hex=task_id.hex, short=str(task_id)[:-1])
    for path in (f"/v1/workload/status/{name}", f"/v1/workload/{name}/result"):
        assert (await alice.get(path)).status_code == 404


async def test_the_letters_of_an_id_may_be_large(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = str(await staging.completed(b"content"))
    answer = await alice.get(f"/v1/workload/status/{task_id.upper()}")
    assert answer.json()["task_id"] == task_id
    assert (await alice.get(f"/v1/workload/{task_id.upper()}/result")).content == b"content"


async def test_head_has_the_headers_of_get_and_no_body(alice: httpx.AsyncClient, staging: Staging) -> None:
    pending, completed = await staging.pending(), await staging.completed(b"content", filename="é.bin")
    for path in (
        "/v1/workload", f"/v1/workload/status/{pending}", f"/v1/workload/status/{completed}", "/v1/actions",
        f"/v1/workload/{completed}/result", f"/v1/workload/{pending}/result", f"/v1/workload/{uuid4()}/result",
        "/v1/workload?limit=0", "/healthz", "/readyz", "/openapi.json", "/docs", "/problems", "/problems/gone",
        "/static/page.css", "/docs/assets/swagger-ui.css", "/nothing",
    ):  # fmt: skip
        known = {"X-Request-ID": "the-same"}
        got, head = await alice.get(path, headers=known), await alice.head(path, headers=known)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        moving = {"date"}
        assert {n: v for n, v in head.headers.items() if n not in moving} == {
            n: v for n, v in got.headers.items() if n not in moving
        }, path


@pytest.mark.parametrize("host", ["evil/v1/x", "a?b=c", "a#b", "[::1", "a b", "a@b", "%41", "a:b:c", ""])
async def test_a_strange_host_leads_nowhere_else(host: str, alice: httpx.AsyncClient, staging: Staging) -> None:
    """Paths are never taken from an address that was put together with the Host header."""
    alice.event_hooks = {}  # the server itself may refuse such a host, whatever the document says
    for number in range(2):
        await staging.pending(labels=(f"n{number}",))
    answer = await alice.get("/v1/workload?limit=1", headers={"Host": host})
    if answer.status_code != 400:
        assert answer.headers["link"].startswith("</v1/workload?limit=1&cursor="), answer.headers
        refused = await alice.put("/v1/workload", headers={"Host": host})
        assert refused.headers["allow"] == "GET, HEAD, POST"
        assert refused.json()["instance"] == "/v1/workload"
