"""The routes that are asked most do without FastAPI's machinery, and no route goes without what it needs."""

import asyncio
import json
from inspect import iscoroutinefunction
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.responses import Response

from app.api.direct import DirectRoute, Fields
from app.api.routes import status, submission
from app.main import ROUTERS
from tests.api.raw import head


def test_submissions_and_polls_are_direct() -> None:
    for router in (submission.router, status.router):
        assert router.routes
        assert all(isinstance(route, DirectRoute) for route in router.routes)


def test_no_dependency_of_any_route_is_taken_to_another_thread() -> None:
    """FastAPI runs a plain function in a thread pool, there and back, for each request."""
    asked = [
        dependency.call
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for dependency in route.dependant.dependencies
    ]
    assert asked
    for call in asked:
        assert iscoroutinefunction(call) or iscoroutinefunction(getattr(call, "__call__", None)), call  # noqa: B004


def test_what_only_fastapi_can_give_is_refused_at_the_start() -> None:
    router = APIRouter(route_class=DirectRoute)

    async def inner() -> int:
        return 1

    async def outer(one: Annotated[int, Depends(inner)]) -> int:
        return one

    async def with_a_query(request: Request, limit: int) -> Response:
        return Response(f"{request.url}{limit}")

    async def with_a_chain(request: Request, one: Annotated[int, Depends(outer)]) -> Response:
        return Response(f"{request.url}{one}")

    for endpoint in (with_a_query, with_a_chain):
        with pytest.raises(TypeError, match="no direct route"):
            router.get("/somewhere")(endpoint)


def test_fields_are_found_as_starlette_finds_them() -> None:
    raw = [(b"accept", b"a"), (b"x-y", b"caf\xe9"), (b"accept", b"b"), (b"empty", b"")]
    fields, theirs = Fields(raw), Headers(raw=raw)
    for name in ("accept", "Accept", "X-Y", "empty", "missing"):
        assert fields.getlist(name) == theirs.getlist(name)
        assert fields.get(name) == theirs.get(name)
        assert (name in fields) == (name in theirs)
    assert fields == theirs
    with pytest.raises(KeyError):
        fields["missing"]


async def test_an_answer_is_one_packet(alice: httpx.AsyncClient) -> None:
    """Head and body: two writes would be two packets, and two wake-ups of whoever reads."""
    request = head(alice, "GET /v1/workload/status/none HTTP/1.1")
    reader, writer = await asyncio.open_connection(alice.base_url.host, alice.base_url.port)
    try:
        for _ in range(20):
            writer.write(request)
            packet = await reader.read(65_536)
            start, _, body = packet.partition(b"\r\n\r\n")
            assert start.startswith(b"HTTP/1.1 404")
            assert json.loads(body)["type"] == "/problems/not-found"
    finally:
        writer.close()
