"""Leadership: one at a time, and the next one at once when it resigns, or when its lease is over."""

from datetime import timedelta

from redis.asyncio import Redis

from app.store.keys import LEADER_KEY
from app.store.leadership import Leadership
from stack.servers import RedisServer

LEASE = timedelta(seconds=30)


async def test_one_candidate_leads_and_keeps_the_lead(redis: Redis) -> None:
    one, other = Leadership(redis, "one", lease=LEASE), Leadership(redis, "other", lease=LEASE)
    assert await one.is_held()
    await redis.pexpire(LEADER_KEY, 5_000)
    assert not await other.is_held()
    assert await redis.pttl(LEADER_KEY) <= 5_000, "who does not lead renews nothing"
    assert await one.is_held()
    assert 5_000 < await redis.pttl(LEADER_KEY) <= 30_000


async def test_who_resigns_leaves_the_lead_to_the_next(redis: Redis) -> None:
    one, other = Leadership(redis, "one", lease=LEASE), Leadership(redis, "other", lease=LEASE)
    assert await one.is_held()
    await one.resign()
    assert await other.is_held()


async def test_who_does_not_lead_cannot_resign_for_another(redis: Redis) -> None:
    one, other = Leadership(redis, "one", lease=LEASE), Leadership(redis, "other", lease=LEASE)
    assert await one.is_held()
    await other.resign()
    assert await redis.get(LEADER_KEY) == b"one"


async def test_a_lease_that_is_over_is_anybodys(redis: Redis) -> None:
    one, other = Leadership(redis, "one", lease=LEASE), Leadership(redis, "other", lease=LEASE)
    assert await one.is_held()
    await redis.delete(LEADER_KEY)  # as its TTL does
    assert await other.is_held()
    assert not await one.is_held()


async def test_without_redis_nobody_leads(own_server: RedisServer) -> None:
    async with Redis.from_url(own_server.url) as client:
        own_server.stop()
        candidate = Leadership(client, "one", lease=LEASE)
        assert not await candidate.is_held()
        await candidate.resign()
