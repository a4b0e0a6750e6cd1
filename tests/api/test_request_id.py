"""Every answer has an X-Request-ID: the caller's, if it is a decent one; and it goes along to the worker."""

from uuid import uuid4

import httpx
import pytest

from tests.api.raw import head, send
from tests.support.service import Service
from tests.support.waiting import wait_until

DECENT = ["a", "0", "-", ".", "_", "A-Za-z0-9._-", "a" * 128, "550e8400-e29b-41d4-a716-446655440000", "None"]
STRANGE: dict[str, bytes] = {
    "empty": b"", "129 characters": b"a" * 129, "10 kB": b"a" * 10_000, "a blank": b"a b", "a slash": b"a/b",
    "a quote": b'a"b', "a comma": b"a,b", "a percent sign": b"a%0d%0ab", "a tab": b"a\tb",
    "UTF-8": "é".encode(), "Latin-1": b"\xe9", "a brace": b"{a}", "an equals sign": b"a=b",
}  # fmt: skip
PLACES = {
    "a list": ("GET", "/v1/workload", 200),
    "a health check": ("GET", "/healthz", 200),
    "a page": ("GET", "/problems/gone", 200),
    "an unknown path": ("GET", "/nothing", 404),
    "an unknown task": ("GET", f"/v1/workload/status/{uuid4()}", 404),
    "another method": ("PUT", "/v1/workload", 405),
    "a refused body": ("POST", "/v1/workload", 415),
    "a refused query": ("GET", "/v1/workload?limit=0", 422),
    "a HEAD": ("HEAD", "/v1/workload", 200),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_decent_id_comes_back_everywhere(place: str, alice: httpx.AsyncClient) -> None:
    method, path, status = PLACES[place]
    for request_id in DECENT:
        answer = await alice.request(method, path, headers={"X-Request-ID": request_id})
        assert answer.status_code == status
        assert answer.headers.get_list("x-request-id") == [request_id]
        if status >= 400:
            assert answer.json()["request_id"] == request_id


@pytest.mark.parametrize("name", STRANGE)
async def test_a_strange_id_is_replaced(name: str, alice: httpx.AsyncClient) -> None:
    answers = [
        await alice.get(path, headers=[(b"X-Request-ID", STRANGE[name])]) for path in ("/v1/workload", "/nothing")
    ]
    first, second = (answer.headers["x-request-id"] for answer in answers)
    assert first != second
    assert all(one.isalnum() and len(one) == 32 for one in (first, second))
    assert answers[1].json()["request_id"] == second


async def test_a_repeated_id_is_replaced(alice: httpx.AsyncClient) -> None:
    answer = await alice.get("/healthz", headers=[("X-Request-ID", "a"), ("X-Request-ID", "a")])
    assert len(answer.headers["x-request-id"]) == 32


async def test_line_breaks_in_an_id_add_no_header_and_no_log_line(service: Service, alice: httpx.AsyncClient) -> None:
    mark = uuid4().hex
    for attack in (f"a\x1b[31m{mark}", f"a\r\nX-Evil: {mark}", f"a\n[INFO] {mark}", f"a\r[INFO] {mark}"):
        raw = head(alice, "GET /healthz HTTP/1.1", f"X-Request-ID: {attack}")
        answer = await send(service.base_url, raw)
        assert answer.status in (200, 400)
        assert "x-evil" not in answer.headers
    await alice.get("/healthz", headers={"X-Request-ID": "flush"})
    assert mark not in service.api_log


async def test_line_breaks_in_a_path_add_no_log_line(service: Service, alice: httpx.AsyncClient) -> None:
    mark = uuid4().hex
    for line_break in ("%0A", "%0D", "%0D%0A", "%E2%80%A8", "%C2%85"):
        assert (await alice.get(f"/{line_break}[ERROR]%20{mark}")).status_code == 404

    async def told() -> bool:
        return service.api_log.count(mark) == 5

    await wait_until(told, what="the access lines")
    assert all("[INFO] answered" in line for line in service.api_log.splitlines() if mark in line)


async def test_the_id_goes_along_to_the_worker(service: Service, alice: httpx.AsyncClient) -> None:
    """Whoever knows the id finds the whole story, on both sides of the broker."""
    request_id = f"story.{uuid4()}"
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": 1}, headers={"X-Request-ID": request_id})
    task_id = answer.json()["task_id"]
    await service.ended(alice, task_id)

    async def story() -> list[str]:
        lines = [line for line in service.worker_log.splitlines() if f"request_id={request_id}" in line]
        return lines if any("ended" in line for line in lines) else []

    for line in await wait_until(story, what="the worker's log"):
        assert f"task_id={task_id}" in line
    (line,) = [line for line in service.api_log.splitlines() if f"request_id={request_id}" in line]
    for field in ("answered", "status=202", f"task_id={task_id}", "action=noop", "queue="):
        assert field in line


async def test_no_token_and_no_payload_is_logged(service: Service, alice: httpx.AsyncClient) -> None:
    secret = f"payload-{uuid4().hex}"
    answer = await alice.post("/v1/workload", json={"action": "noop", "id": 1, "labels": [secret]})
    task = answer.json()
    await service.ended(alice, task["task_id"])
    await alice.post("/v1/workload", json={"action": "noop", "id": secret})
    await alice.get("/v1/workload", params={"label": secret})
    for log in (service.api_log, service.worker_log):
        assert secret not in log
        assert task["task_token"] not in log
        assert alice.headers["authorization"].removeprefix("Bearer ") not in log
