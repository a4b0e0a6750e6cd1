"""WebSocket: refusals are close codes, and nothing of a task comes before one."""

import asyncio
import time
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.api.sockets import opened
from tests.api.staging import Staging
from tests.security.forging import good_claims, sign, with_wrong_claims, with_wrong_headers, with_wrong_shape
from tests.support.service import Service


async def code_of(service: Service, task_id: object, token: str | None = None, **how: object) -> int | None:
    """Return the close code of a socket over which nothing came."""
    async with opened(service, task_id, token, **how) as socket:  # type: ignore[arg-type]
        code = await socket.code()
    assert socket.messages == []
    return code


async def test_without_a_token_it_is_4401(service: Service, subject: str, staging: Staging) -> None:
    task_id, token = await staging.pending(), service.token(subject)
    assert await code_of(service, task_id) == 4401
    assert await code_of(service, task_id, "nonsense") == 4401
    assert await code_of(service, task_id, headers=[("Authorization", f"Basic {token}")]) == 4401
    twice = [("Authorization", f"Bearer {token}")] * 2
    assert await code_of(service, task_id, headers=twice) == 4401
    assert await code_of(service, "no-uuid") == 4401  # the token is asked for first


async def test_a_forged_token_is_4401(service: Service, staging: Staging) -> None:
    assert service.settings.jwt.secret
    key = service.settings.jwt.secret.get_secret_value().encode()
    forged = with_wrong_claims(key) | with_wrong_headers(key) | with_wrong_shape(sign(good_claims(), key))
    task_id = await staging.pending()
    # uvicorn never answers a handshake with a header line over 8 KiB; nginx does.
    fits = [token for token in forged.values() if len(token) < 8000]
    sendable = [token for token in fits if token.isprintable() and token.isascii() and " " not in token]
    codes = await asyncio.gather(*(code_of(service, task_id, token) for token in sendable))
    assert set(codes) == {4401}


async def test_what_is_anothers_is_4404_like_what_is_not_there(
    service: Service, subject: str, staging: Staging
) -> None:
    other = service.token(f"not-{subject}")
    for task_id in (await staging.pending(), await staging.completed(b"x"), uuid4(), "no-uuid", "%20", uuid4().hex):
        assert await code_of(service, task_id, other) == 4404
    assert await code_of(service, await staging.created(), service.token(subject)) == 4404


async def test_without_the_scope_it_is_4403(service: Service, subject: str, staging: Staging) -> None:
    token = service.token(subject, scopes="workload:submit")
    assert await code_of(service, await staging.pending(), token) == 4403


async def test_a_socket_ends_when_its_token_does(service: Service, subject: str, staging: Staging) -> None:
    token = service.token(subject, ttl_seconds=1)
    async with opened(service, await staging.pending(), token) as socket:
        assert (await socket.next())["task"]["status"] == "PENDING"
        began = time.monotonic()
        assert await socket.code() == 4401
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", "http://localhost"]
)
async def test_a_foreign_page_is_4403_even_with_a_token(
    origin: str, service: Service, subject: str, staging: Staging
) -> None:
    task_id, token = await staging.pending(), service.token(subject)
    assert await code_of(service, task_id, token, origin=origin) == 4403
    assert await code_of(service, task_id, protocols=["longhaul.v1", f"bearer.{token}"], origin=origin) == 4403


async def test_our_own_page_may_connect(service: Service, subject: str, staging: Staging) -> None:
    origin = service.settings.public_url
    async with opened(service, await staging.pending(), service.token(subject), origin=origin) as socket:
        assert (await socket.next())["type"] == "status"


async def test_a_browser_brings_its_token_as_a_subprotocol(service: Service, subject: str, staging: Staging) -> None:
    """The answer is the protocol's name alone: the token is not sent back."""
    task_id, token = await staging.pending(), service.token(subject)
    for protocols in (["longhaul.v1", f"bearer.{token}"], [f"bearer.{token}", "longhaul.v1"]):
        async with opened(service, task_id, protocols=protocols) as socket:
            assert socket.connection.subprotocol == "longhaul.v1"
            assert (await socket.next())["type"] == "status"
    assert await code_of(service, task_id, protocols=["longhaul.v1", "bearer.nonsense"]) == 4401
    assert await code_of(service, task_id, protocols=["longhaul.v1", f"bearer.{token}", f"bearer.{token[:-1]}"]) == 4401
    assert await code_of(service, task_id, protocols=["longhaul.v1"]) == 4401
    async with opened(service, task_id, token, protocols=["other"]) as socket:
        assert socket.connection.subprotocol is None


async def test_a_task_token_opens_its_own_task_only(
    service: Service, alice: httpx.AsyncClient, staging: Staging
) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    async with opened(service, task["task_id"], task["task_token"]) as socket:
        assert await socket.code() == 1000
    assert socket.tasks[-1]["status"] == "COMPLETED"
    for other in (await staging.pending(), uuid4()):
        assert await code_of(service, other, task["task_token"]) == 4404


@pytest.mark.parametrize("path", ["/v1/workload/x", "/v1/workload", "/ws", "/v1/workload/{}/ws/"])
async def test_there_is_no_socket_elsewhere(path: str, service: Service, subject: str) -> None:
    url = service.base_url.replace("http", "ws", 1) + path.format(uuid4())
    headers = {"Authorization": f"Bearer {service.token(subject)}"}
    with pytest.raises(InvalidStatus) as raised:
        async with connect(url, additional_headers=headers, proxy=None):
            pass
    answer = raised.value.response
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
