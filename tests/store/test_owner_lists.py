"""OwnerLists: whose tasks there are, newest first."""

from uuid import UUID

from redis.asyncio import Redis

from app.store.keys import owner_id, owner_tasks_key
from app.store.listing import LIST_TTL, OwnerLists
from tests.store.cast import OWNER
from tests.store.conftest import order

MINE = owner_id(OWNER)
IDS = [UUID(int=number) for number in range(1, 6)]


async def test_tasks_are_listed_newest_first_then_by_falling_id(redis: Redis) -> None:
    lists = OwnerLists(redis)
    for at, task_id in enumerate(IDS):
        await lists.add(order(task_id=task_id, created_at=at // 2))
    found = await lists.stretch(MINE, newest=None, offset=0, count=10)
    assert found == [(IDS[4], 2), (IDS[3], 1), (IDS[2], 1), (IDS[1], 0), (IDS[0], 0)]


async def test_a_stretch_begins_at_a_moment_and_passes_over(redis: Redis) -> None:
    lists = OwnerLists(redis)
    for at, task_id in enumerate(IDS):
        await lists.add(order(task_id=task_id, created_at=at))
    assert await lists.stretch(MINE, newest=3, offset=1, count=2) == [(IDS[2], 2), (IDS[1], 1)]


async def test_a_task_that_is_listed_again_keeps_its_place(redis: Redis) -> None:
    lists = OwnerLists(redis)
    await lists.add(order(task_id=IDS[0], created_at=5))
    await lists.add(order(task_id=IDS[0], created_at=9))
    assert await lists.stretch(MINE, newest=None, offset=0, count=10) == [(IDS[0], 5)]


async def test_a_list_goes_by_itself_after_the_newest_submission(redis: Redis) -> None:
    await OwnerLists(redis).add(order())
    ttl = await redis.ttl(owner_tasks_key(MINE))
    assert 0 < ttl <= LIST_TTL.total_seconds()


async def test_owners_see_only_their_own(redis: Redis) -> None:
    lists = OwnerLists(redis)
    await lists.add(order())
    assert await lists.stretch("another owner", newest=None, offset=0, count=10) == []


async def test_what_is_misplaced_is_moved_and_what_is_gone_stays_gone(redis: Redis) -> None:
    lists = OwnerLists(redis)
    for at, task_id in enumerate(IDS[:2]):
        await lists.add(order(task_id=task_id, created_at=at))
    await lists.move(MINE, {IDS[0]: 7, IDS[4]: 9})
    assert await lists.stretch(MINE, newest=None, offset=0, count=10) == [(IDS[0], 7), (IDS[1], 1)]


async def test_what_is_gone_is_taken_off(redis: Redis) -> None:
    lists = OwnerLists(redis)
    for task_id in IDS[:2]:
        await lists.add(order(task_id=task_id))
    await lists.remove(MINE, [IDS[0]])
    assert [found for found, _ in await lists.stretch(MINE, newest=None, offset=0, count=10)] == [IDS[1]]
