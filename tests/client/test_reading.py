"""Status and list."""

from datetime import UTC, datetime

import pytest

from app.client import LonghaulClient, ServiceProblem, UnexpectedAnswer
from app.client.watching import etag_of
from app.domain.lifecycle import TaskStatus
from tests.client.faulty import LIST, STATUS, TASK, Faulty, document, problem, says


async def test_a_document_in_hand_is_not_sent_again(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, document(seq=7), ETag='W/"7"'), says(304, None, ETag='W/"7"'))
    first = await client.status(TASK)
    assert await client.status(str(TASK), etag=etag_of(first)) is None
    assert faulty.calls(STATUS)[1].headers["if-none-match"] == 'W/"7"'


async def test_reading_is_tried_again(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(STATUS, problem("store-unavailable", 503, retry_after=1), says(200, document()))
    assert (await client.status(TASK)).status is TaskStatus.PENDING


async def test_an_unknown_task_is_a_problem_at_once(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(STATUS, problem("not-found", 404))
    with pytest.raises(ServiceProblem) as raised:
        await client.status(TASK)
    assert raised.value.slug == "not-found"
    assert len(faulty.calls(STATUS)) == 1


async def test_an_id_that_is_none_never_leaves(client: LonghaulClient, faulty: Faulty) -> None:
    with pytest.raises(ValueError, match="UUID"):
        await client.status("../admin")
    assert faulty.seen == []


async def test_a_list_goes_over_all_pages_with_the_same_filters(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(
        LIST,
        says(200, {"items": [document(seq=3), document(seq=2)], "next_cursor": "c+/="}),
        says(200, {"items": [document(seq=1)]}),
    )
    tasks = client.list(status=[TaskStatus.PENDING, TaskStatus.FAILED], action=["noop"], label=["a", "b"])
    assert [task.seq async for task in tasks] == [3, 2, 1]
    filters = "limit=200&status=PENDING&status=FAILED&action=noop&label=a&label=b"
    assert [seen.query for seen in faulty.calls(LIST)] == [filters, f"{filters}&cursor=c%2B%2F%3D"]


async def test_a_limit_asks_for_no_more_than_it_needs(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(LIST, says(200, {"items": [document(seq=3), document(seq=2)], "next_cursor": "c"}))
    assert [task.seq async for task in client.list(limit=2)] == [3, 2]
    assert [task.seq async for task in client.list(limit=1)] == [3]
    assert [task.seq async for task in client.list(limit=0)] == []
    assert [seen.query for seen in faulty.calls(LIST)] == ["limit=2", "limit=1"]


async def test_pages_can_be_taken_by_time(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(LIST, says(200, {"items": []}))
    pages = client.pages(created_after=datetime(2026, 1, 2, tzinfo=UTC), page_size=7)
    assert [page.items async for page in pages] == [[]]
    assert faulty.calls(LIST)[0].query == "limit=7&created_after=2026-01-02T00%3A00%3A00.000Z"


async def test_a_cursor_that_leads_nowhere_ends_the_list(client: LonghaulClient, faulty: Faulty) -> None:
    faulty.on(LIST, says(200, {"items": [], "next_cursor": "same"}))
    with pytest.raises(UnexpectedAnswer, match="cursor"):
        _ = [page async for page in client.pages()]
