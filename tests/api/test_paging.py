"""Paging: every task once, whatever happens between two pages."""

import asyncio
import random
import time
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis

from app.store.keys import owner_tasks_key
from tests.api.problems import parameters_of
from tests.api.staging import Staging
from tests.support.service import Service

NOW = time.time_ns() // 1_000_000


async def pages(client: httpx.AsyncClient, query: str) -> list[list[str]]:
    """Follow `Link: …; rel="next"` from the first page to the last."""
    found, target = [], f"/v1/workload?{query}"
    while target:
        answer = await client.get(target)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found.append([task["task_id"] for task in page["items"]])
        link = answer.headers.get("link")
        assert (link is None) == ("next_cursor" not in page)
        target = ""
        if link is not None:
            target, _, relation = link.removeprefix("<").partition(">; ")
            assert relation == 'rel="next"'
            assert target.startswith("/v1/workload?")
            assert httpx.URL(target).params["cursor"] == page["next_cursor"]
    return found


async def test_pages_hold_every_task_once_also_those_of_one_millisecond(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    made = [(NOW - age, await staging.pending(created_at=NOW - age)) for age in (0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 7)]
    expected = [str(task_id) for _, task_id in sorted(made, key=lambda one: (one[0], str(one[1])), reverse=True)]
    for limit in range(1, 13):
        found = await pages(alice, f"limit={limit}")
        assert [task_id for page in found for task_id in page] == expected
        assert all(len(page) == limit for page in found[:-1])
        assert found[-1]  # no empty page at the end


async def test_filters_hold_on_every_page(alice: httpx.AsyncClient, staging: Staging) -> None:
    ids = [
        await staging.pending(created_at=NOW - number // 2, labels=("all", f"mod:{number % 2}")) for number in range(9)
    ]
    found = await pages(alice, "limit=2&label=all&label=mod%3A1&status=PENDING&action=noop")
    assert sorted(task_id for page in found for task_id in page) == sorted(map(str, ids[1::2]))
    assert [len(page) for page in found] == [2, 2]


async def test_a_list_longer_than_one_look_is_complete(alice: httpx.AsyncClient, staging: Staging) -> None:
    """The service reads 200 at a time; what a filter leaves of them must still fill the page."""
    rare = [await staging.pending(created_at=NOW - 400 + number, labels=("rare",)) for number in (0, 210, 399)]
    for start in range(0, 400, 20):
        await asyncio.gather(*(staging.pending(created_at=NOW - 400 + start + number) for number in range(20)))
    found = await pages(alice, "limit=2&label=rare")
    assert [UUID(task_id) for page in found for task_id in page] == rare[::-1]
    found = await pages(alice, "limit=200")
    assert [len(page) for page in found] == [200, 200, 3]
    assert len({task_id for page in found for task_id in page}) == 403


async def test_what_comes_between_two_pages_neither_repeats_nor_hides_a_task(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    old = [await staging.pending(created_at=NOW - age) for age in (3, 4, 5, 6)]
    first = (await alice.get("/v1/workload?limit=2")).json()
    for age in (0, 3, 10):
        await staging.pending(created_at=NOW - age)
    second = (await alice.get(f"/v1/workload?limit=200&cursor={first['next_cursor']}")).json()
    seen = [task["task_id"] for page in (first, second) for task in page["items"]]
    assert len(seen) == len(set(seen))
    assert set(map(str, old)) <= set(seen)


async def test_a_task_that_was_refused_at_first_is_listed_by_its_true_age(
    alice: httpx.AsyncClient, staging: Staging
) -> None:
    """Under a key a refused task keeps its id; the list must not keep the time of the refusal."""
    refused = staging.envelope(created_at=NOW - 1000)
    await staging.store.create(refused, b"sealed")
    assert await staging.store.abort(refused) == "ABORTED"
    others = [await staging.pending(created_at=NOW - age) for age in (600, 400)]
    await staging.pending(task_id=refused.task_id, created_at=NOW, message_id="the second")
    expected = [str(task_id) for task_id in (refused.task_id, others[1], others[0])]
    found = await pages(alice, "limit=1")
    assert [task_id for page in found for task_id in page] == expected


async def test_a_list_that_redis_has_lost_is_in_order_again_whatever_filled_it(
    alice: httpx.AsyncClient, staging: Staging, service: Service
) -> None:
    """A repeated request lists its task at its own time: walked so, the list and the archive's would not fit."""
    tasks = [await staging.pending(created_at=NOW - age) for age in (900, 600, 300)]
    async with Redis.from_url(service.settings.redis_url.get_secret_value()) as redis:
        await redis.zadd(owner_tasks_key(staging.owner.digest), {str(tasks[0]): NOW + 5})
    expected = [str(task_id) for task_id in reversed(tasks)]
    for limit in (1, 2, 3):
        found = await pages(alice, f"limit={limit}")
        assert [task_id for page in found for task_id in page] == expected


ID, TIME = uuid4().hex, "1764014400000"
BROKEN = {
    "nothing": "", "a word": "abc", "one letter": "a", "no base64": "!!!", "other letters": "é",
    "no id": TIME, "no time": ID, "a word for a time": f"x{TIME[1:]}{ID}", "a word for an id": f"{TIME}{'x' * 32}",
    "a NUL": f"{TIME}{ID[:-1]}\0", "a line break": f"{TIME}{ID}\n", "other digits": "\u0661" * 13 + ID,
    "a time of 5000 digits": "9" * 5000 + ID, "a sign": f"-{TIME[1:]}{ID}", "a range of Redis": f"({TIME}{ID}",
    "capitals": f"{TIME}{'A' * 32}", "an id with dashes": f"{TIME}{uuid4()}",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_cursor_is_refused_by_parameter(name: str, alice: httpx.AsyncClient, staging: Staging) -> None:
    await staging.pending()
    answer = await alice.get("/v1/workload", params={"cursor": BROKEN[name]})
    assert parameters_of(answer) == ["cursor"]


async def test_a_cursor_shows_nobody_elses_tasks(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient, staging: Staging
) -> None:
    for _ in range(2):
        await staging.pending()
    page = (await alice.get("/v1/workload?limit=1")).json()
    assert (await bob.get("/v1/workload", params={"cursor": page["next_cursor"]})).json() == {"items": []}


async def test_a_garbled_cursor_never_breaks_the_service(alice: httpx.AsyncClient, staging: Staging) -> None:
    for _ in range(2):
        await staging.pending()
    good = (await alice.get("/v1/workload?limit=1")).json()["next_cursor"]
    chance = random.Random(1)
    for _ in range(60):
        garbled = list(good)
        for _ in range(chance.randint(1, 4)):
            garbled[chance.randrange(len(garbled))] = chance.choice("AZaz09-_=+/.~")
        answer = await alice.get("/v1/workload", params={"cursor": "".join(garbled)})
        assert answer.status_code in (200, 422), answer.text
