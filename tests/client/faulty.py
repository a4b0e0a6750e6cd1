"""A server that misbehaves on purpose: the fault injector for the client, not a stand-in for our service.

Each route has a list of answers, given in turn; the last one stays. A route without answers fails the test with a 599.
"""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answer = Callable[["Seen", Receive, Send], Awaitable[None]]

TASK = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
STATUS = f"GET /v1/workload/status/{TASK}"
RESULT = f"GET /v1/workload/{TASK}/result"
SOCKET = f"WS /v1/workload/{TASK}/ws"
SUBMIT = "POST /v1/workload"
LIST = "GET /v1/workload"
CONTENT = bytes(range(256)) * 16_384  # 4 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class CutConnection(Exception):
    """Raised in an answer that has begun: uvicorn drops the connection."""


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    route: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Faulty:
    """The running server."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def on(self, route: str, *answers: Answer) -> None:
        """Answer a route so, in turn."""
        self.answers[route] = list(answers)

    def calls(self, route: str) -> list[Seen]:
        """What came for a route."""
        return [seen for seen in self.seen if seen.route == route]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Be an ASGI application."""
        is_http = scope["type"] == "http"
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = (await receive()).get("body", b"") if is_http else b""
        route = f"{scope['method'] if is_http else 'WS'} {scope['path']}"
        seen = Seen(route, scope["query_string"].decode(), headers, body)
        self.seen.append(seen)
        answers = self.answers.get(route)
        if not answers:
            await says(599, {"unexpected": route})(seen, receive, send) if is_http else await send(
                {"type": "websocket.close"}
            )
            return
        await (answers.pop(0) if len(answers) > 1 else answers[0])(seen, receive, send)


class QuietServer(uvicorn.Server):
    """Leaves the signals to pytest."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def faulty_server() -> AsyncIterator[Faulty]:
    """Run one on a free port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        faulty = Faulty(f"http://127.0.0.1:{listening.getsockname()[1]}")
        config = uvicorn.Config(
            faulty, lifespan="off", log_config=None, log_level="critical", access_log=False, timeout_graceful_shutdown=1
        )
        server = QuietServer(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="faulty server")
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield faulty
        finally:
            server.should_exit = True
            await serving


def says(status: int, content: object = None, **headers: str) -> Answer:
    """A plain answer; header names with _ for -."""
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()

    async def answer(_: Seen, __: Receive, send: Send) -> None:
        await send(_start(status, {"Content-Type": "application/json", **headers}))
        await send({"type": "http.response.body", "body": body})

    return answer


def problem(slug: str, status: int, *, retry_after: int | None = None, **members: object) -> Answer:
    """A problem, as our service writes it."""
    body: dict[str, object] = {"type": f"/problems/{slug}", "title": slug.title(), "status": status, **members}
    headers = {"Content_Type": "application/problem+json"}
    if retry_after is not None:
        body["retry_after"] = retry_after
        headers["Retry_After"] = str(retry_after)
    return says(status, body, **headers)


def document(status: str = "PENDING", seq: int = 1, progress: int = 0, **more: Any) -> dict[str, Any]:
    """A status document."""
    return {
        "task_id": str(TASK),
        "action": "noop",
        "status": status,
        "progress": progress,
        "seq": seq,
        "attempt": 0 if status == "PENDING" else 1,
        "max_attempts": 5,
        "created_at": "2026-11-24T20:15:30.125Z",
        "labels": [],
        "links": {"self": {"href": f"/v1/workload/status/{TASK}"}},
        **more,
    }


def completed(seq: int = 9, content: bytes = CONTENT, **result: Any) -> dict[str, Any]:
    """The document of a task that made `content`."""
    described = {
        "size": len(content),
        "content_type": "application/octet-stream",
        "filename": "made.bin",
        "sha256": hashlib.sha256(content).hexdigest(),
        **result,
    }
    return document("COMPLETED", seq, 100, result=described)


def drops() -> Answer:
    """No answer at all: the connection ends."""

    async def answer(_: Seen, __: Receive, send: Send) -> None:
        await send(_start(200, {"Content-Length": "10"}))
        raise CutConnection

    return answer


def file(content: bytes = CONTENT, *, cut_after: int | None = None, ranges: bool = True, **headers: str) -> Answer:
    """The result, its range if one is asked for; with `cut_after` the connection ends after so many bytes of it."""
    digest = hashlib.sha256(content).hexdigest()

    async def answer(seen: Seen, _: Receive, send: Send) -> None:
        first = 0
        if ranges and seen.headers.get("if-range") == f'"{digest}"':
            first = int(seen.headers["range"].removeprefix("bytes=").removesuffix("-"))
        part = content[first:]
        own = {"ETag": f'"{digest}"', "Content-Length": str(len(part)), **headers}
        if first:
            own["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        await send(_start(206 if first else 200, own))
        await send({"type": "http.response.body", "body": part[:cut_after], "more_body": cut_after is not None})
        if cut_after is not None:
            raise CutConnection

    return answer


def streams(*messages: object, close: int = 1000) -> Answer:
    """Accept the WebSocket, send messages (dicts as JSON), close it."""

    async def answer(_: Seen, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for message in messages:
            await send({"type": "websocket.send", "text": message if isinstance(message, str) else json.dumps(message)})
        await send({"type": "websocket.close", "code": close})

    return answer


def update(**kwargs: Any) -> dict[str, Any]:
    """A status message of the live stream."""
    return {"type": "status", "task": document(**kwargs)}


def _start(status: int, headers: Mapping[str, str]) -> Message:
    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": list(dict(raw).items())}
