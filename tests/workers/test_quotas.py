"""The leader sets right what counts against a quota: what a crash left, and what an emptied Redis has forgotten."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from app.domain.envelope import Envelope
from app.domain.task import Owner
from app.store.epochs import Epochs
from app.store.keys import SHARDS, owner_active_key, owner_id
from app.store.limits import OwnerLimits
from app.store.replies import Created
from app.store.tasks import TaskStore
from workers.housekeeping.quotas import Quotas

OWNER = Owner("issuer", "subject")
MINE = owner_id(OWNER)
HOUR = timedelta(hours=1)

Round = Callable[[], Awaitable[set[UUID]]]


@pytest.fixture
def store(redis: Redis) -> TaskStore:
    return TaskStore(redis, lease=HOUR, status_ttl=HOUR)


@pytest.fixture
def limits(redis: Redis) -> OwnerLimits:
    return OwnerLimits(redis, quota=100, window=HOUR, active_tasks=100)


@pytest.fixture
def a_round(redis: Redis, store: TaskStore, limits: OwnerLimits) -> Round:
    """Let the leader look at everything once, without patience; return what counts then."""
    keeper = Quotas(store, limits, grace=timedelta(0))

    async def perform() -> set[UUID]:
        for _ in range(SHARDS):
            await keeper.perform()
        found: Any = await redis.zrange(owner_active_key(MINE), 0, -1)
        return {UUID(member.decode()) for member in found}

    return perform


def order() -> Envelope:
    return Envelope(
        task_id=uuid4(), message_id="m", action="a", queue="q", owner=OWNER, params={}, max_attempts=1, created_at=1
    )


async def promised(store: TaskStore) -> UUID:
    envelope = order()
    created = await store.create(envelope, b"sealed")
    assert isinstance(created, Created)
    assert await store.queued(envelope, created.epoch)
    return envelope.task_id


async def test_what_never_came_to_be_counts_no_more(limits: OwnerLimits, store: TaskStore, a_round: Round) -> None:
    """A process died between counting and creating."""
    await limits.admit(order())
    living = await promised(store)
    await limits.count(MINE, [living])
    assert await a_round() == {living}


async def test_what_has_ended_or_was_taken_back_counts_no_more(
    limits: OwnerLimits, store: TaskStore, a_round: Round
) -> None:
    refused = order()
    await limits.admit(refused)
    await store.create(refused, b"sealed")
    await store.abort(refused)
    deleted = order()
    await limits.admit(deleted)
    await store.forget(deleted.task_id, MINE, again=True)
    assert await a_round() == set()


async def test_what_lives_counts_again_after_redis_was_emptied(redis: Redis, store: TaskStore, a_round: Round) -> None:
    await Epochs(redis).count_as_old()
    living = {await promised(store) for _ in range(40)}
    assert await a_round() == living, "no admission has ever counted them, as after a rebuild"


async def test_what_counts_since_a_moment_ago_is_left_alone(
    redis: Redis, limits: OwnerLimits, store: TaskStore
) -> None:
    """Its submission may be between counting and creating."""
    envelope = order()
    await limits.admit(envelope)
    await Quotas(store, limits).perform()
    assert await redis.zcard(owner_active_key(MINE)) == 1
