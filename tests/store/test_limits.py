"""What an owner may submit, and how much of it may be under way: one script, over sets of ids."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from app.domain.envelope import Envelope
from app.domain.errors import QuotaExceeded, RateLimited
from app.store.keys import owner_active_key, owner_id, owner_rate_key, owner_tasks_key
from app.store.limits import Admission, OwnerLimits
from app.store.lua import LoadedText
from tests.store.cast import OWNER
from tests.store.conftest import order
from tests.store.scripts import CLOCK_KEY, clock_fields, on_test_clock
from tests.store.stage import BEGINNING

MINE = owner_id(OWNER)
WINDOW = timedelta(seconds=60)


class Door(OwnerLimits):
    """The product's, on a clock that stands still until a test moves it."""

    def __init__(self, redis: Redis, *, quota: int = 3, active_tasks: int = 1000) -> None:
        super().__init__(redis, quota=quota, window=WINDOW, active_tasks=active_tasks)
        self.script = on_test_clock(self._admit.text)
        self._admit = LoadedText(redis, self.script)
        self.now = BEGINNING

    async def later(self, span: int) -> None:
        """Let so many ms pass."""
        self.now += span
        await self._redis.hset(CLOCK_KEY, mapping=clock_fields(self.now))  # type: ignore[arg-type]

    async def verdict(self, envelope: Envelope | None = None) -> str:
        """Try once."""
        try:
            await self.admit(envelope or new_order())
        except RateLimited:
            return "RATE"
        except QuotaExceeded:
            return "QUOTA"
        return "ADMITTED"


def new_order() -> Envelope:
    return order(task_id=uuid4())


async def active(redis: Redis) -> set[UUID]:
    found: Any = await redis.zrange(owner_active_key(MINE), 0, -1)
    return {UUID(member.decode()) for member in found}


async def listed(redis: Redis) -> int:
    return int(await redis.zcard(owner_tasks_key(MINE)))


async def test_a_bucket_gives_what_it_holds_and_then_what_flows_in(redis: Redis) -> None:
    door = Door(redis)
    await door.later(0)
    assert [await door.verdict() for _ in range(5)] == ["ADMITTED"] * 3 + ["RATE"] * 2
    await door.later(19_000)  # a unit takes 20 s
    assert await door.verdict() == "RATE"
    await door.later(1_001)
    assert [await door.verdict() for _ in range(2)] == ["ADMITTED", "RATE"]
    await door.later(10 * 60_000)  # never more than it holds
    assert [await door.verdict() for _ in range(4)] == ["ADMITTED"] * 3 + ["RATE"]


async def test_what_is_told_is_what_is_true(redis: Redis) -> None:
    """`remaining` counts down to none, and after the time that was told there is one more, and not earlier."""
    door = Door(redis)
    await door.later(0)
    told = [(await door.admit(new_order())).rate for _ in range(3)]
    assert [rate.remaining for rate in told] == [2, 1, 0]
    with pytest.raises(RateLimited) as caught:
        await door.admit(new_order())
    wait = caught.value.retry_after
    assert wait == caught.value.rate.next_unit_seconds == 20
    await door.later((wait - 1) * 1000)
    assert await door.verdict() == "RATE"
    await door.later(1001)
    assert await door.verdict() == "ADMITTED"


async def test_a_flood_gets_no_more_than_the_bucket(redis: Redis) -> None:
    """A hundred requests at once, on Redis' own clock: the bucket, and what flows in meanwhile."""
    door = OwnerLimits(redis, quota=10, window=timedelta(hours=1), active_tasks=1000)

    async def one() -> bool:
        try:
            await door.admit(new_order())
        except RateLimited:
            return False
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(100)))) == 10
    assert len(await active(redis)) == await listed(redis) == 10, "the refused leave nothing"


async def test_a_script_that_is_sent_twice_takes_one_unit(redis: Redis) -> None:
    """redis-py sends a command again when its answer was lost."""
    door = Door(redis)
    await door.later(0)
    envelope = new_order()
    keys = [owner_rate_key(MINE), owner_active_key(MINE), owner_tasks_key(MINE)]
    arguments: list[Any] = [str(envelope.task_id), "nonce", envelope.created_at, 3, 60_000, 10, 1000]
    first = await redis.eval(door.script, 3, *keys, *arguments)
    assert await redis.eval(door.script, 3, *keys, *arguments) == first == [b"ADMITTED", 2, 20_000, 1]


async def test_a_quota_counts_ids_and_a_repeated_one_once(redis: Redis) -> None:
    door = Door(redis, quota=100, active_tasks=2)
    await door.later(0)
    first = new_order()
    assert [(await door.admit(first)).is_new for _ in range(2)] == [True, False]
    assert [await door.verdict() for _ in range(3)] == ["ADMITTED", "QUOTA", "QUOTA"]
    assert await door.verdict(first) == "ADMITTED", "it counts already"
    assert len(await active(redis)) == await listed(redis) == 2
    await door.release(MINE, first.task_id)
    assert [await door.verdict() for _ in range(2)] == ["ADMITTED", "QUOTA"]


async def test_a_request_over_the_quota_takes_its_unit_of_rate(redis: Redis) -> None:
    door = Door(redis, quota=3, active_tasks=1)
    await door.later(0)
    assert [await door.verdict() for _ in range(5)] == ["ADMITTED", "QUOTA", "QUOTA", "RATE", "RATE"]


async def test_every_owner_has_its_own(redis: Redis) -> None:
    door = Door(redis, quota=1)
    await door.later(0)
    assert await door.verdict() == "ADMITTED"
    other = OWNER.__class__(OWNER.issuer, "another")
    assert await door.verdict(order(task_id=uuid4(), owner=other)) == "ADMITTED"
    assert await door.verdict() == "RATE"


async def test_smaller_limits_and_a_stepping_clock_never_make_a_longer_wait_than_a_window(redis: Redis) -> None:
    door = Door(redis)
    await door.later(0)
    for _ in range(3):
        await door.admit(new_order())
    await door.later(-3_600_000)
    with pytest.raises(RateLimited) as caught:
        await door.admit(new_order())
    assert caught.value.retry_after is not None
    assert caught.value.retry_after <= 20


async def test_releases_that_come_together_all_happen(redis: Redis) -> None:
    door = Door(redis, quota=1000)
    await door.later(0)
    orders = [new_order() for _ in range(50)]
    admitted = await asyncio.gather(*(door.admit(envelope) for envelope in orders))
    assert all(isinstance(one, Admission) and one.is_new for one in admitted)
    await asyncio.gather(*(door.release(MINE, envelope.task_id) for envelope in orders[1:]))
    assert await active(redis) == {orders[0].task_id}


def test_an_owners_keys_share_a_slot_of_a_cluster() -> None:
    keys = (owner_rate_key(MINE), owner_active_key(MINE), owner_tasks_key(MINE))
    assert len({key_slot(key.encode()) for key in keys}) == 1


async def test_a_bucket_goes_by_itself_when_it_is_full_again(redis: Redis) -> None:
    await Door(redis).later(0)
    await OwnerLimits(redis, quota=3, window=WINDOW, active_tasks=9).admit(new_order())
    assert 0 < await redis.pttl(owner_rate_key(MINE)) <= 20_000
