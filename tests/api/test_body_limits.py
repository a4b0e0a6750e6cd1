"""Sizes are bounded while a body is read, whatever its sender says about its length."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import httpx

from app.api.server import MAX_UNFINISHED
from tests.api.problems import problem_of
from tests.api.raw import json_of, send, submission_head
from tests.support.service import Service
from tests.support.waiting import wait_until

LIMIT = 65_536
BODY = b'{"action":"noop","id":1}'
JSON = {"Content-Type": "application/json"}


async def nothing_was_accepted(alice: httpx.AsyncClient) -> bool:
    """Return whether the caller has no task at all."""
    return bool((await alice.get("/v1/workload")).json() == {"items": []})


async def test_64_kib_are_taken_and_one_byte_more_is_not(alice: httpx.AsyncClient) -> None:
    full = BODY + b" " * (LIMIT - len(BODY))
    problem = problem_of(await alice.post("/v1/workload", content=full + b" ", headers=JSON), "payload-too-large")
    assert str(LIMIT) in problem["detail"]
    assert await nothing_was_accepted(alice)
    assert (await alice.post("/v1/workload", content=full, headers=JSON)).status_code == 202


async def test_a_body_without_an_announced_length_is_counted(service: Service, alice: httpx.AsyncClient) -> None:
    """Chunked, and never ended: the refusal comes while the sender is still at it."""
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    head = submission_head(alice, "Transfer-Encoding: chunked")
    answer = await send(service.base_url, head, *[chunk] * 5)
    assert answer.status == 413
    assert json_of(answer)["type"] == "/problems/payload-too-large"
    assert answer.headers["x-request-id"]
    assert await nothing_was_accepted(alice)


async def test_a_chunked_body_of_decent_size_is_taken(service: Service, alice: httpx.AsyncClient) -> None:
    head = submission_head(alice, "Transfer-Encoding: chunked")
    pieces = [f"{1:x}\r\n".encode() + bytes([byte]) + b"\r\n" for byte in BODY]
    answer = await send(service.base_url, head, *pieces, b"0\r\n\r\n")
    assert answer.status == 202, answer.body


async def test_a_body_that_is_announced_too_long_is_refused_unread(service: Service, alice: httpx.AsyncClient) -> None:
    answer = await send(service.base_url, submission_head(alice, f"Content-Length: {LIMIT + 1}"))
    assert answer.status == 413
    assert json_of(answer)["type"] == "/problems/payload-too-large"
    assert await nothing_was_accepted(alice)


async def test_a_sender_who_waits_for_leave_is_told_no_before_it_sends(
    service: Service, alice: httpx.AsyncClient
) -> None:
    del alice.headers["authorization"]
    head = submission_head(alice, "Content-Length: 24", "Expect: 100-continue")
    assert (await send(service.base_url, head)).status == 401


async def test_a_body_that_is_cut_off_does_nothing(service: Service, alice: httpx.AsyncClient) -> None:
    """The bytes that came are a whole order; that more was announced makes them none. It is nobody's failure."""
    request_id = uuid4().hex
    head = submission_head(alice, "Content-Length: 100", f"X-Request-ID: {request_id}")
    with suppress(EOFError, ConnectionError):  # there may be nobody left to answer
        await send(service.base_url, head, BODY, then_close=True)
    assert await nothing_was_accepted(alice)

    async def log_lines() -> list[str]:
        return [line for line in service.api_log.splitlines() if request_id in line]

    lines = await wait_until(log_lines, what="the access line")
    assert not any(line.startswith("[ERROR]") for line in lines), lines


async def test_a_body_longer_than_announced_does_not_become_part_of_the_order(
    service: Service, alice: httpx.AsyncClient
) -> None:
    head = submission_head(alice, f"Content-Length: {len(BODY) - 1}")
    answer = await send(service.base_url, head, BODY)
    assert answer.status == 400
    assert await nothing_was_accepted(alice)


async def test_a_get_with_a_body_is_served_without_it(alice: httpx.AsyncClient) -> None:
    answer = await alice.request("GET", "/v1/workload", content=b"{" * 100, headers={"Content-Type": "text/plain"})
    assert answer.json() == {"items": []}


async def test_a_head_without_an_end_is_given_up(service: Service, anybody: httpx.AsyncClient) -> None:
    """Nobody knows yet who sends it: no token has been read."""
    for beginning in (b"GET /", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: "):
        answer = await send(service.base_url, beginning, b"a" * (MAX_UNFINISHED + 1 - len(beginning)))
        assert answer.status == 431
        problem = json_of(answer)
        assert problem["type"] == "/problems/headers-too-large"
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["connection"] == "close"


async def test_a_trailer_without_an_end_is_given_up(service: Service, anybody: httpx.AsyncClient) -> None:
    address = httpx.URL(service.base_url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(submission_head(anybody, "Transfer-Encoding: chunked") + b"1\r\n{\r\n0\r\nX-Long: ")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.write(b"a" * (MAX_UNFINISHED + 1))
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                await reader.read()
    finally:
        writer.close()


async def test_a_trailer_is_no_header(service: Service, alice: httpx.AsyncClient) -> None:
    """Nobody who stands before the service has looked at it: it gives no token, and no key either."""
    token = alice.headers.pop("authorization")
    body = b"%x\r\n%s\r\n0\r\nAuthorization: %s\r\n\r\n" % (len(BODY), BODY, token.encode())
    answer = await send(service.base_url, submission_head(alice, "Transfer-Encoding: chunked") + body)
    assert answer.status == 401
    alice.headers["authorization"] = token
    assert await nothing_was_accepted(alice)


async def test_what_is_no_http_is_a_problem_too(service: Service) -> None:
    answer = await send(service.base_url, b"hello\r\n\r\n")
    assert answer.status == 400
    assert json_of(answer)["type"] == "/problems/malformed"
    assert json_of(answer)["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
