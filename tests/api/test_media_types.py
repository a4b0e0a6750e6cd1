"""Bodies are application/json in UTF-8, plain; answers are JSON, for whoever takes them."""

import httpx
import pytest

from tests.api.problems import problem_of

BODY = b'{"action":"noop","id":1}'


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json ; Charset=Utf-8",
    ],
)
async def test_json_in_utf_8_is_taken_in_any_case(content_type: str, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", content=BODY, headers={"Content-Type": content_type})
    assert answer.status_code == 202, answer.text
    assert answer.headers["content-type"] == "application/json"


REFUSED: dict[str, list[tuple[str, str | bytes]]] = {
    "no type": [],
    "an empty type": [("Content-Type", "")],
    "plain text": [("Content-Type", "text/plain")],
    "a form": [("Content-Type", "application/x-www-form-urlencoded")],
    "text/json": [("Content-Type", "text/json")],
    "another JSON type": [("Content-Type", "application/problem+json")],
    "a longer name": [("Content-Type", "application/json5")],
    "a wildcard": [("Content-Type", "application/*")],
    "another charset": [("Content-Type", "application/json; charset=iso-8859-1")],
    "UTF-16": [("Content-Type", "application/json; charset=utf-16")],
    "another parameter": [("Content-Type", "application/json; version=2")],
    "one parameter more": [("Content-Type", "application/json; charset=utf-8; version=2")],
    "the type twice": [("Content-Type", "application/json"), ("Content-Type", "application/json")],
    "two types in one": [("Content-Type", "application/json, text/plain")],
    "a no-break space": [("Content-Type", b"application/json\xa0")],
    "gzip": [("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
    "identity, which is no encoding": [("Content-Type", "application/json"), ("Content-Encoding", "identity")],
    "an empty encoding": [("Content-Type", "application/json"), ("Content-Encoding", "")],
    "two encodings": [
        ("Content-Type", "application/json"), ("Content-Encoding", "identity"), ("Content-Encoding", "br")
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_other_bodies_are_not_read(name: str, alice: httpx.AsyncClient) -> None:
    headers = [(key.encode(), value.encode() if isinstance(value, str) else value) for key, value in REFUSED[name]]
    answer = await alice.post("/v1/workload", content=BODY, headers=headers)
    problem_of(answer, "unsupported-media-type")
    assert answer.headers["accept-post"] == "application/json"
    assert (await alice.get("/v1/workload")).json() == {"items": []}


SERVED = [
    None, "*/*", "application/*", "application/json", "APPLICATION/JSON", "", "text/html, application/json",
    "text/html, */*;q=0.1", "application/json;q=0.001", "application/json; q=1.000", "application/json;charset=utf-8",
    "*/*;q=0, application/json", "text/html;q=0, application/*",
]  # fmt: skip
NOT_SERVED = [
    "text/html", "application/xml, text/*", "application/problem+json", "application/json;q=0", "*/*;q=0.000",
    "application/jso", "json", "application/json;q=0, */*", "application/*;q=0, */*", "application/json;q=0, text/html",
]  # fmt: skip


@pytest.mark.parametrize("accept", SERVED)
async def test_whoever_takes_json_is_served(accept: str | None, alice: httpx.AsyncClient) -> None:
    if accept is None:
        del alice.headers["accept"]
    else:
        alice.headers["accept"] = accept
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": 1})
    assert answer.status_code == 202, answer.text
    assert (await alice.get(answer.headers["location"])).status_code == 200
    assert (await alice.get("/v1/workload")).status_code == 200
    assert (await alice.get("/v1/actions")).status_code == 200


@pytest.mark.parametrize("accept", NOT_SERVED)
async def test_whoever_does_not_is_told_so_in_a_problem(accept: str, alice: httpx.AsyncClient) -> None:
    refused = {"Accept": accept}
    problem_of(await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers=refused), "not-acceptable")
    problem_of(await alice.get("/v1/workload", headers=refused), "not-acceptable")
    problem_of(await alice.get("/v1/actions", headers=refused), "not-acceptable")
    assert (await alice.get("/v1/workload")).json() == {"items": []}


async def test_a_status_is_json_or_nothing(alice: httpx.AsyncClient) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    path = task["links"]["self"]["href"]
    problem_of(await alice.get(path, headers={"Accept": "text/html"}), "not-acceptable")
    assert (await alice.get(path, headers={"Accept": "application/*"})).json()["task_id"] == task["task_id"]
