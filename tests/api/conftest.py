"""Fixtures of the API's tests: clients whose every answer is held against the OpenAPI document, and staged tasks."""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.service import Service

Hook = Callable[[httpx.Response], Awaitable[None]]

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Empty: httpx would load all certificate authorities for each client, which takes 40 ms, and nobody here is asked."""


@pytest.fixture(scope="session")
async def contract(service: Service) -> dict[str, Any]:
    """The OpenAPI document."""
    async with httpx.AsyncClient(base_url=service.base_url) as client:
        document: dict[str, Any] = (await client.get("/openapi.json")).json()
        return document


@pytest.fixture(scope="session")
def documented(contract: dict[str, Any]) -> Hook:
    """Fails on an answer whose status the OpenAPI document does not name."""
    templates = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in contract["paths"]]

    async def check(answer: httpx.Response) -> None:
        request = answer.request
        method = "get" if request.method == "HEAD" else request.method.lower()
        path = request.url.raw_path.decode().partition("?")[0]
        for pattern, template in sorted(templates, key=lambda known: "{" in known[1]):
            operation = contract["paths"][template].get(method)
            if pattern.fullmatch(path) and operation is not None:
                known = operation["responses"]
                assert str(answer.status_code) in known, f"{method} {template} answered {answer.status_code}: {known}"
                return

    return check


@asynccontextmanager
async def held_against(documented: Hook, service: Service, token: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose every answer is checked."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=service.base_url, headers=headers, timeout=10, verify=NO_TLS) as client:
        client.event_hooks = {"response": [documented]}
        yield client


@pytest.fixture
async def alice(service: Service, subject: str, documented: Hook) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared service, as this test's own caller."""
    async with held_against(documented, service, service.token(subject)) as client:
        yield client


@pytest.fixture
async def bob(service: Service, subject: str, documented: Hook) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody else."""
    async with held_against(documented, service, service.token(f"not-{subject}")) as client:
        yield client


@pytest.fixture
async def anybody(service: Service, documented: Hook) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with held_against(documented, service, None) as client:
        yield client
