"""`/asyncapi.json` describes what really comes over sockets and event streams."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from app.api.live_document import SOCKET_MESSAGES, STREAM_MESSAGES
from app.api.showing import Documents
from app.api.streams import socket_message
from app.service.watching import HEARTBEAT
from tests.api.route_table import all_routes
from tests.api.sockets import opened
from tests.api.staging import Staging
from tests.api.streaming import streaming
from tests.support.service import Service


@pytest.fixture
async def described(anybody: httpx.AsyncClient) -> dict[str, Any]:
    """The document, as it is served."""
    answer = await anybody.get("/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


def checker(described: dict[str, Any], message: str) -> Draft202012Validator:
    """Return a validator of one kind of message."""
    payload = described["components"]["messages"][message]["payload"]
    return Draft202012Validator({**payload, "components": described["components"]}, format_checker=FormatChecker())


def test_every_address_is_a_route_and_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    addresses = {channel["address"] for channel in described["channels"].values()}
    routes = all_routes()
    assert addresses == {path for kind, path in routes if kind == "WS" or path.endswith("/events")}

    def follow(value: Any) -> None:
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            found: Any = described
            for step in value["$ref"].removeprefix("#/").split("/"):
                found = found[step]
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            follow(inner)

    follow(described)


def test_its_schemas_are_those_of_openapi(described: dict[str, Any], contract: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    assert schemas.keys() >= {"StatusDocument", "LogLine"}
    assert schemas == {name: contract["components"]["schemas"][name] for name in schemas}


async def test_what_comes_is_as_described(
    described: dict[str, Any], service: Service, alice: httpx.AsyncClient, subject: str, staging: Staging
) -> None:
    task_id, token = await staging.processing()
    async with (
        opened(service, task_id, service.token(subject)) as one,
        opened(service, None, service.token(subject)) as every,
        streaming(alice, str(task_id)) as stream,
    ):
        await asyncio.gather(one.next(), every.next(), stream.next())
        await staging.log(task_id, token, "a line")
        await asyncio.gather(one.next(), every.next(), stream.next())
        await staging.end(task_id)
        assert await one.code() == 1000
        await asyncio.gather(every.next(), stream.rest())
    messages = one.messages + every.messages + [json.loads(socket_message(HEARTBEAT, Documents("http://here")))]
    assert {message["type"] for message in messages} == set(SOCKET_MESSAGES)
    for message in messages:
        checker(described, message["type"]).validate(message)
        for other in set(SOCKET_MESSAGES) - {message["type"]}:
            assert not checker(described, other).is_valid(message)
    assert {f"{message.event}Event" for message in stream.messages} == set(STREAM_MESSAGES)
    for event in stream.messages:
        checker(described, f"{event.event}Event").validate(event.data)
        assert not checker(described, f"{event.event}Event").is_valid({})
