"""The list of one's tasks: order, filters, and a query that is read strictly."""

import time
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from tests.api.problems import parameters_of
from tests.api.staging import Staging
from tests.support.service import Service

NOW = time.time_ns() // 1_000_000


def moment(milliseconds: int, zone: str = "Z") -> str:
    """Write a time as RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}{zone}"


async def listed(client: httpx.AsyncClient, query: str = "") -> list[str]:
    """Return the ids of a page."""
    answer = await client.get(f"/v1/workload?{query}")
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json()["items"]]


async def test_who_has_no_task_has_an_empty_list(alice: httpx.AsyncClient) -> None:
    answer = await alice.get("/v1/workload")
    assert answer.json() == {"items": []}
    assert "link" not in answer.headers
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization, Prefer"


async def test_the_newest_stands_first_and_each_is_its_status_document(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    ids = [await staging.pending(created_at=NOW - age) for age in (5, 3, 9)]
    answer = await alice.get("/v1/workload")
    assert [task["task_id"] for task in answer.json()["items"]] == [str(ids[one]) for one in (1, 0, 2)]
    for task in answer.json()["items"]:
        assert (await alice.get(task["links"]["self"]["href"])).json() == task


async def test_others_tasks_and_what_is_not_promised_are_not_in_it(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, staging: Staging
) -> None:
    await staging.created()
    mine = await staging.pending()
    assert await listed(alice) == [str(mine)]
    assert await listed(bob) == []


async def test_an_admin_sees_the_own_tasks_only(service: Service, subject: str, staging: Staging) -> None:
    await staging.pending()
    scopes = "workload:admin workload:read"
    async with service.client(f"admin-{subject}", scopes=scopes) as admin:
        assert await listed(admin) == []


async def test_states_and_actions_are_alternatives_and_labels_add_up(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    pending = str(await staging.pending(created_at=NOW - 9, labels=("a", "b")))
    sleeping = str(await staging.pending(created_at=NOW - 8, action="sleep", labels=("a",)))
    failed, completed = str(await staging.failed()), str(await staging.completed())
    assert await listed(alice, "status=PENDING") == [sleeping, pending]
    assert set(await listed(alice, "status=FAILED&status=COMPLETED")) == {failed, completed}
    assert await listed(alice, "status=CANCELLED") == []
    assert await listed(alice, "action=sleep") == [sleeping]
    assert len(await listed(alice, "action=sleep&action=noop")) == 4
    assert await listed(alice, "action=nope") == []
    assert await listed(alice, "label=a") == [sleeping, pending]
    assert await listed(alice, "label=a&label=b") == [pending]
    assert await listed(alice, "label=a&label=c") == []
    assert await listed(alice, "label=a&action=sleep&status=PENDING") == [sleeping]
    assert await listed(alice, "label=a&action=sleep&status=FAILED") == []


async def test_times_bound_from_inclusive_to_exclusive(alice: httpx.AsyncClient, staging: Staging) -> None:
    first, second, third = [str(await staging.pending(created_at=NOW - age)) for age in (2, 1, 0)]
    assert await listed(alice, f"created_after={moment(NOW - 1)}") == [third, second]
    assert await listed(alice, f"created_before={moment(NOW - 1)}") == [first]
    assert await listed(alice, f"created_after={moment(NOW - 1)}&created_before={moment(NOW)}") == [second]
    assert await listed(alice, f"created_after={moment(NOW)}&created_before={moment(NOW)}") == []
    assert await listed(alice, f"created_after={moment(NOW + 1)}") == []
    between = moment(NOW - 1).replace("Z", "5Z")  # half of a millisecond later
    assert await listed(alice, f"created_after={between}") == [third]
    assert await listed(alice, f"created_before={between}") == [second, first]


async def test_a_time_may_have_any_zone(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = str(await staging.pending(created_at=NOW))
    here = moment(NOW + 5_400_000, "+01:30")
    for query in (quote(here), here):  # a plus sign that was not encoded is forgiven
        assert await listed(alice, f"created_after={query}") == [task_id]
    assert await listed(alice, f"created_after={moment(NOW, '-00:00')}") == [task_id]
    assert await listed(alice, "created_after=0001-01-01T00:00:00%2B23:59") == [task_id]
    assert await listed(alice, "created_before=9999-12-31T23:59:59-23:59") == [task_id]
    assert await listed(alice, "created_before=0001-01-01T00:00:00%2B23:59") == []


WRONG = {
    "limit=0": ["limit"], "limit=201": ["limit"], "limit=-1": ["limit"], "limit=": ["limit"], "limit=x": ["limit"],
    "limit=1.0": ["limit"], "limit=+1": ["limit"], "limit=1e1": ["limit"], "limit=%201": ["limit"],
    "limit=%D9%A3": ["limit"], "limit=1_0": ["limit"], "limit=99999999999999999999": ["limit"],
    "limit=1&limit=2": ["limit"], "status=pending": ["status"], "status=": ["status"], "status=created": ["status"],
    "status=PENDING,FAILED": ["status"], "created_after=yesterday": ["created_after"],
    "created_after=": ["created_after"],
    "created_after=2026-11-24": ["created_after"], "created_after=2026-11-24T20:15:30": ["created_after"],
    "created_before=1795554366": ["created_before"], "created_before=2026-13-01T00:00:00Z": ["created_before"],
    "created_before=2026-11-24T20:15:30Z&created_before=2026-11-24T20:15:30Z": ["created_before"],
    "owner=bob": ["owner"], "offset=1": ["offset"], "LIMIT=1": ["LIMIT"], "sort=asc&sort=desc": ["sort"],
    "cursor=a&cursor=b": ["cursor"], "limit=0&status=x&y=1": ["limit", "status", "y"], "=1": [""],
    "label=%00": ["label"], "action=a%00": ["action"], "cursor=%00": ["cursor"],
}  # fmt: skip


@pytest.mark.parametrize("query", WRONG)
async def test_a_wrong_query_is_refused_by_parameter(query: str, alice: httpx.AsyncClient) -> None:
    assert sorted(parameters_of(await alice.get(f"/v1/workload?{query}"))) == WRONG[query]


@pytest.mark.parametrize("limit", [1, 50, 200, "007"])
async def test_every_limit_in_its_bounds_is_taken(limit: int, alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id: UUID = await staging.pending()
    assert await listed(alice, f"limit={limit}") == [str(task_id)]
