"""A whole response leaves in one write, and nothing of it outlives it; all others go as uvicorn sends them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware import RequestContext
from app.api.server import BoundedHttp, OneWriteCycle
from tests.api.raw import PATIENCE

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LENGTH = (b"content-length", b"4")

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    """Serve an application on a free port, and give what connects to it."""
    config = uvicorn.Config(app, http=BoundedHttp, lifespan="off", log_config=None, port=0)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield lambda: asyncio.open_connection("127.0.0.1", port)
    finally:
        await server.shutdown()


async def answered(app: ASGIApp, request: bytes = LAST) -> bytes:
    """Return all that comes back until the server closes the connection."""
    async with serving(app) as connect, asyncio.timeout(PATIENCE):
        reader, writer = await connect()
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


def sends(
    *parts: tuple[bytes, bool], headers: tuple[tuple[bytes, bytes], ...] = (LENGTH,), status: int = 200
) -> ASGIApp:
    """Return an application that sends a head, and a body in these parts; each says whether more comes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # as ASGI wants it
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for body, more in parts:
            await send({"type": "http.response.body", "body": body, "more_body": more})

    return app


async def test_a_whole_response_is_one_packet_and_leaves_the_connection_open() -> None:
    async with serving(sends((b"body", False))) as connect, asyncio.timeout(PATIENCE):
        reader, writer = await connect()
        for _ in range(20):
            writer.write(GET)
            packet = await reader.read(65_536)
            assert packet.startswith(b"HTTP/1.1 200 OK\r\n")
            assert packet.endswith(b"\r\ncontent-length: 4\r\n\r\nbody")
        writer.close()


async def test_requests_in_one_packet_are_answered_in_their_order() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(scope["path"])(scope, receive, send)

    two = b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    first, second, third = (await answered(app, two)).split(b"HTTP/1.1 200 OK\r\n")
    assert first == b""
    assert second.endswith(b"\r\n\r\n/1")
    assert b"connection: close\r\n" not in second
    assert third.endswith(b"\r\n\r\n/2")
    assert b"connection: close\r\n" in third


async def test_a_connection_that_is_not_kept_is_closed() -> None:
    answer = await answered(sends((b"body", False)), b"GET / HTTP/1.0\r\n\r\n")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize("value", [b"4\r\nx-other: 1", b"4\nx", b"4\rx", b"\0", b"\x7f"])
async def test_what_would_end_a_field_is_never_sent(value: bytes) -> None:
    answer = await answered(sends((b"body", False), headers=(LENGTH, (b"x-one", value))))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x-o" not in answer


async def test_a_head_request_gets_no_body() -> None:
    answer = await answered(sends((b"body", False)), b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"content-length: 4\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_stream_begins_before_its_first_event() -> None:
    waits = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # as ASGI wants it
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await waits.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async with serving(app) as connect, asyncio.timeout(PATIENCE):
        reader, writer = await connect()
        writer.write(GET)
        try:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        finally:
            waits.set()
        assert await reader.readuntil(b"late")
        writer.close()


@pytest.mark.parametrize("parts", [((b"bo", True), (b"dy", False)), ((b"body", True), (b"", False))])
async def test_a_body_in_parts_comes_whole(parts: tuple[tuple[bytes, bool], ...]) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sends(*parts)(scope, receive, send)
        ended.set()

    assert (await answered(app)).endswith(b"\r\n\r\nbody")
    assert ended.is_set()


async def test_whoever_listens_hears_that_all_was_sent() -> None:
    loop = asyncio.get_running_loop()
    heard = loop.create_future()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await sends((b"body", False))(scope, receive, send)
        heard.set_result(await listening)

    async with serving(app) as connect, asyncio.timeout(PATIENCE):
        reader, writer = await connect()
        writer.write(GET)
        assert await reader.readuntil(b"body")
        try:
            assert await asyncio.wait_for(heard, PATIENCE / 2) == {"type": "http.disconnect"}
        finally:
            writer.close()


@pytest.mark.parametrize("body", [b"bod", b"bodies"])
async def test_a_body_of_another_length_than_its_head_says_is_no_whole_answer(body: bytes) -> None:
    answer = await answered(sends((body, False)))
    assert not answer.endswith(b"bodies")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("how", ["raises", "returns", "begins again", "is cancelled"])
async def test_an_answer_that_was_begun_is_cut_off_and_no_other_follows(how: str, method: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # as ASGI wants it
        start = {"type": "http.response.start", "status": 200, "headers": [LENGTH]}
        await send(start)
        match how:
            case "raises":
                raise OSError("the file cannot be read")
            case "begins again":
                await send(start)
            case "is cancelled":
                raise asyncio.CancelledError

    answer = await answered(app, LAST.replace(b"GET", method))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\r\n\r\n")


async def test_what_the_head_or_the_body_leaves_out_is_nothing() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # as ASGI wants it
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    assert (await answered(app)).startswith(b"HTTP/1.1 204 ")

    async def empty(scope: Scope, receive: Receive, send: Send) -> None:  # as ASGI wants it
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    assert (await answered(empty)).endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")


async def test_nothing_of_an_answered_request_is_left_for_the_collector() -> None:
    """Cycles would be: nineteen objects for each request, until the collector finds them among all that lives."""
    app = RequestContext(Response("body"))
    async with serving(app) as connect, asyncio.timeout(PATIENCE):
        reader, writer = await connect()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                writer.write(GET)
                await reader.readuntil(b"body")
            left = [one for one in gc.get_objects() if isinstance(one, OneWriteCycle)]
        finally:
            gc.enable()
        assert len(left) <= 2
        writer.close()
