"""A watch survives what networks and restarts do to it, and ends with the terminal document."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from app.client import LonghaulClient, ServiceProblem, Unreachable, watching
from app.client.watching import document_in
from app.domain.task import StatusDocument
from tests.client.faulty import (
    SOCKET,
    STATUS,
    TASK,
    Faulty,
    Receive,
    Seen,
    Send,
    document,
    problem,
    says,
    streams,
    update,
)

DONE: dict[str, Any] = {"status": "COMPLETED", "seq": 9, "progress": 100}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait seconds where the service names none."""
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)


async def seqs(client: LonghaulClient, task: StatusDocument | None = None) -> list[int]:
    async with asyncio.timeout(20), aclosing(client.watch(task or TASK)) as documents:
        return [one.seq async for one in documents]


async def test_the_live_stream_is_enough(client: LonghaulClient, faulty: Faulty) -> None:
    ping, log = {"type": "ping", "time": "x"}, {"type": "log", "line": 1}
    faulty.on(SOCKET, streams(update(), ping, log, {"type": "of tomorrow"}, update(seq=2), update(**DONE)))
    assert await seqs(client) == [1, 2, 9]
    assert [seen.route for seen in faulty.seen] == [SOCKET]
    assert faulty.seen[0].headers["authorization"] == "Bearer a.b.c"


async def test_old_news_is_no_news(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SOCKET, streams(update(seq=5), update(seq=5), update(seq=4), update(seq=6), update(**DONE)))
    assert await seqs(client) == [5, 6, 9]


async def test_a_stream_that_closes_early_is_opened_again(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SOCKET, streams(update(seq=2), close=1012), streams(update(seq=2), update(**DONE)))
    faulty.on(STATUS, says(304))
    assert await seqs(client) == [2, 9]
    assert len(faulty.calls(SOCKET)) == 2
    assert faulty.calls(STATUS)[0].headers["if-none-match"] == 'W/"2"'


async def test_the_terminal_document_is_found_when_the_stream_broke_before_it(
    client: LonghaulClient, faulty: Faulty
) -> None:
    faulty.on(SOCKET, streams(update(seq=2), close=1000))
    faulty.on(STATUS, says(200, document(**DONE)))
    assert await seqs(client) == [2, 9]


async def test_where_no_socket_can_be_opened_polling_does(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(
        STATUS,
        says(200, document(), Retry_After="1"),
        says(304, None, Retry_After="1"),
        says(200, document(seq=2)),
        says(200, document(**DONE)),
    )
    started = asyncio.get_running_loop().time()
    assert await seqs(client) == [1, 2, 9]
    assert asyncio.get_running_loop().time() - started >= 2.0, "Retry-After was not kept"
    assert [seen.headers.get("if-none-match") for seen in faulty.calls(STATUS)] == [None, 'W/"1"', 'W/"1"', 'W/"2"']


async def test_a_socket_that_is_always_closed_at_once_is_not_opened_in_a_rush(
    client: LonghaulClient, faulty: Faulty
) -> None:
    faulty.on(SOCKET, streams(update(), close=1013))
    faulty.on(STATUS, *[says(304)] * 30, says(200, document(**DONE)))
    assert await seqs(client) == [1, 9]
    assert len(faulty.calls(SOCKET)) <= 5


@pytest.mark.parametrize("rubbish", ["{", "[]", '{"type": "status"}', '{"type": "status", "task": {"seq": "x"}}'])
async def test_a_stream_of_rubbish_is_left_for_polling(client: LonghaulClient, faulty: Faulty, rubbish: str) -> None:
    faulty.on(SOCKET, streams(rubbish))
    faulty.on(STATUS, says(200, document(**DONE)))
    assert await seqs(client) == [9]


async def test_an_unknown_task_is_told_at_once(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SOCKET, streams(close=4404))
    faulty.on(STATUS, problem("not-found", 404))
    with pytest.raises(ServiceProblem, match="not-found"):
        await seqs(client)
    assert len(faulty.calls(STATUS)) == 1


async def test_a_known_task_may_be_forgotten_for_a_while(client: LonghaulClient, faulty: Faulty) -> None:
    known = StatusDocument.model_validate(document())
    faulty.on(SOCKET, streams(close=4404))
    faulty.on(STATUS, *[problem("not-found", 404)] * 3, problem("store-unavailable", 503), says(200, document(**DONE)))
    assert await seqs(client, known) == [1, 9]


async def test_but_not_for_ever(faulty: Faulty) -> None:
    known = StatusDocument.model_validate(document())
    faulty.on(STATUS, problem("not-found", 404))
    async with LonghaulClient(faulty.url, "a.b.c", watch_patience=timedelta(seconds=0.3)) as client:
        with pytest.raises(ServiceProblem, match="not-found"):
            await seqs(client, known)
    assert len(faulty.calls(STATUS)) >= 3


async def test_a_token_that_ran_out_ends_the_watch(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(SOCKET, streams(update(), close=4401))
    faulty.on(STATUS, problem("unauthorized", 401))
    with pytest.raises(ServiceProblem, match="unauthorized"):
        await seqs(client)


async def test_a_service_that_is_away_is_told_to_whoever_just_came() -> None:
    async with LonghaulClient("http://127.0.0.1:9", "a.b.c") as client:
        with pytest.raises(Unreachable):
            await seqs(client)


async def test_a_terminal_document_in_hand_needs_no_service() -> None:
    async with LonghaulClient("http://127.0.0.1:9", "a.b.c") as client:
        assert await seqs(client, StatusDocument.model_validate(document(**DONE))) == [9]


async def test_leaving_early_closes_the_socket(client: LonghaulClient, faulty: Faulty) -> None:
    closed = asyncio.Event()

    async def stays_open(seen: Seen, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": StatusMessage})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        closed.set()

    faulty.on(SOCKET, stays_open)
    async with aclosing(client.watch(TASK)) as documents:
        async for one in documents:
            assert one.seq == 1
            break
    async with asyncio.timeout(5):
        await closed.wait()


StatusMessage = '{"type": "status", "task": ' + StatusDocument.model_validate(document()).model_dump_json() + "}"


def test_only_status_messages_carry_a_document() -> None:
    assert document_in('{"type": "ping", "time": "now"}') is None
    found = document_in(StatusMessage)
    assert found is not None
    assert found.task_id == TASK
