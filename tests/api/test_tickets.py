"""Tickets: what a browser sends where it cannot send a header. They open little, not for long, and are never logged."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from tests.api.problems import pointers_of, problem_of
from tests.api.sockets import opened
from tests.api.staging import Staging
from tests.api.streaming import streaming
from tests.support.service import Service
from tests.support.waiting import wait_until


async def ticket_of(client: httpx.AsyncClient, **order: object) -> str:
    """Return a ticket."""
    answer = await client.post("/v1/tickets", json=order)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    text: str = answer.json()["ticket"]
    return text


async def code_of(service: Service, task_id: object, ticket: str) -> int | None:
    """Return the close code of a socket over which nothing came."""
    async with opened(service, task_id, query=f"?ticket={ticket}") as socket:
        code = await socket.code()
    assert socket.messages == []
    return code


async def test_a_ticket_opens_one_socket_once(service: Service, alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.pending()
    for order in ({"kind": "ws", "task_id": str(task_id)}, {"kind": "ws"}):
        ticket = await ticket_of(alice, **order)
        async with opened(service, task_id, query=f"?ticket={ticket}") as socket:
            assert (await socket.next())["task"]["task_id"] == str(task_id)
        assert await code_of(service, task_id, ticket) == 4401
    async with opened(service, None, query=f"?ticket={await ticket_of(alice, kind='ws')}") as socket:
        assert (await socket.next())["task"]["task_id"] == str(task_id)


async def test_a_ticket_opens_its_task_only(
    service: Service, alice: httpx.AsyncClient, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    mine, other = await staging.pending(), await staging.pending()
    assert await code_of(service, other, await ticket_of(alice, kind="ws", task_id=str(mine))) == 4404
    assert await code_of(service, None, await ticket_of(alice, kind="ws", task_id=str(mine))) == 4403
    ticket = await ticket_of(alice, kind="sse", task_id=str(mine))
    problem_of(await anybody.get(f"/v1/workload/{other}/events?ticket={ticket}"), "not-found")


async def test_a_ticket_for_events_may_come_again(
    alice: httpx.AsyncClient, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    task_id = await staging.failed()
    answer = await alice.post("/v1/tickets", json={"kind": "sse", "task_id": str(task_id)})
    left = datetime.fromisoformat(answer.json()["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    for _ in range(3):
        async with streaming(anybody, task_id, params={"ticket": answer.json()["ticket"]}) as stream:
            assert [message.event for message in await stream.rest()] == ["status"]


async def test_a_ticket_is_good_for_its_kind_and_for_nothing_else(
    service: Service, alice: httpx.AsyncClient, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    task_id = await staging.pending()
    sse, ws = await ticket_of(alice, kind="sse", task_id=str(task_id)), await ticket_of(alice, kind="ws")
    assert await code_of(service, task_id, sse) == 4401
    problem_of(await anybody.get(f"/v1/workload/{task_id}/events?ticket={ws}"), "unauthorized")
    problem_of(await anybody.get(f"/v1/workload/status/{task_id}?ticket={sse}"), "unauthorized")
    problem_of(await anybody.get(f"/v1/workload/{task_id}/logs?ticket={sse}"), "unauthorized")
    problem_of(await anybody.get(f"/v1/workload/{task_id}/events?ticket={sse}&ticket={sse}"), "unauthorized")
    for wrong in ("", "nonsense", "ä", sse + "x", "x" * 5000):
        problem_of(await anybody.get(f"/v1/workload/{task_id}/events", params={"ticket": wrong}), "unauthorized")


async def test_a_ticket_expires(service: Service, alice: httpx.AsyncClient, staging: Staging) -> None:
    older = await tickets(staging)
    answer = await alice.post("/v1/tickets", json={"kind": "ws"})
    left = datetime.fromisoformat(answer.json()["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)
    (key,) = await tickets(staging) - older
    assert 50_000 < await staging._redis.pttl(key) <= 60_000
    await staging._redis.pexpire(key, 1)

    async def has_gone() -> bool:
        return not await staging._redis.exists(key)

    await wait_until(has_gone)  # a handshake may take less than its millisecond
    async with opened(service, None, query=f"?ticket={answer.json()['ticket']}") as socket:
        assert await socket.code() == 4401


async def tickets(staging: Staging) -> set[bytes]:
    """Return the keys of all tickets."""
    return {key async for key in staging._redis.scan_iter("longhaul:ticket:*")}


async def test_a_socket_opened_by_a_ticket_ends_with_the_token_behind_it(
    service: Service, subject: str, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    task_id = await staging.pending()
    anybody.headers["authorization"] = f"Bearer {service.token(subject, ttl_seconds=3)}"
    ticket = await ticket_of(anybody, kind="ws")
    async with opened(service, task_id, query=f"?ticket={ticket}") as socket:
        assert (await socket.next())["type"] == "status"
        assert await socket.code() == 4401


async def test_a_task_token_gets_tickets_for_its_own_task_only(alice: httpx.AsyncClient, staging: Staging) -> None:
    task = (await alice.post("/v1/workload", json={"action": "noop", "id": 1})).json()
    other = await staging.pending()
    alice.headers["authorization"] = f"Bearer {task['task_token']}"
    await ticket_of(alice, kind="sse", task_id=task["task_id"])
    problem_of(await alice.post("/v1/tickets", json={"kind": "ws"}), "insufficient-scope")
    problem_of(await alice.post("/v1/tickets", json={"kind": "ws", "task_id": str(other)}), "not-found")


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        ({}, ["#/kind"]),
        ({"kind": "sse"}, ["#/task_id"]),
        ({"kind": "carrier pigeon"}, ["#/kind"]),
        ({"kind": "ws", "task_id": "x", "more": 1}, ["#/task_id", "#/more"]),
        ({"kind": 1}, ["#/kind"]),
        ({"kind": "ws", "task_id": None}, ["#/task_id"]),
    ],
)
async def test_an_order_that_is_none_is_refused(
    order: dict[str, object], wrong: list[str], alice: httpx.AsyncClient
) -> None:
    assert pointers_of(await alice.post("/v1/tickets", json=order)) == wrong


async def test_who_may_not_read_gets_no_ticket(
    service: Service, subject: str, alice: httpx.AsyncClient, anybody: httpx.AsyncClient
) -> None:
    problem_of(await anybody.post("/v1/tickets", json={"kind": "ws"}), "unauthorized")
    problem_of(await alice.post("/v1/tickets", json={"kind": "sse", "task_id": str(uuid4())}), "not-found")
    anybody.headers["authorization"] = f"Bearer {service.token(subject, scopes='workload:submit')}"
    problem_of(await anybody.post("/v1/tickets", json={"kind": "nonsense"}), "insufficient-scope")


async def test_no_ticket_is_logged_nor_kept_in_the_clear(
    service: Service, subject: str, alice: httpx.AsyncClient, anybody: httpx.AsyncClient, staging: Staging
) -> None:
    task_id = await staging.failed()
    ws, sse = await ticket_of(alice, kind="ws"), await ticket_of(alice, kind="sse", task_id=str(task_id))
    kept = [await staging._redis.get(key) async for key in staging._redis.scan_iter("longhaul:ticket:*")]
    assert all(subject.encode() not in value for value in kept if value)
    async with opened(service, task_id, query=f"?ticket={ws}") as socket:
        await socket.code()
    await code_of(service, task_id, ws)
    await anybody.get(f"/v1/workload/{task_id}/events?ticket={sse}")
    await anybody.get(f"/v1/workload/{uuid4()}/events?ticket={sse}")
    keys = [key.decode() async for key in staging._redis.scan_iter("*")]
    for ticket in (ws, sse):
        assert ticket not in service.api_log
        assert not [key for key in keys if ticket in key]
