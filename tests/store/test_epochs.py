"""Epochs: a connection that leads to another Redis process than before begins them, before it carries anything else."""

import asyncio
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from app.store.connection import open_redis
from app.store.epochs import Epochs
from app.store.keys import SHARDS, epoch_key, task_key
from app.store.replies import Drop, Wait
from app.store.tasks import TaskStore
from stack.servers import RedisServer
from tests.store.cast import sealed
from tests.store.conftest import Desk, order
from tests.store.scripts import LEASE
from tests.store.stage import TASK_ID


async def epochs(redis: Redis) -> list[bytes]:
    """Return the id of every shard's epoch."""
    return [await redis.hget(epoch_key(shard), "id") or b"" for shard in range(SHARDS)]  # type: ignore[misc]


async def claim(store: TaskStore) -> Any:
    """Claim the tests' task, which Redis does not know."""
    return await store.claim(order(), sealed(order()), checkpoint=None, worker="w", copy_id="c")


async def test_a_restarted_redis_begins_new_epochs_before_it_answers(own_server: RedisServer) -> None:
    async with open_redis(own_server.url) as client:
        store = TaskStore(client, lease=LEASE, status_ttl=timedelta(hours=1))
        await Epochs(client).count_as_old()
        before = await epochs(client)
        await asyncio.to_thread(own_server.stop)
        await asyncio.to_thread(own_server.start)
        assert isinstance(await claim(store), Wait), "the first command already finds a young epoch"
        after = await epochs(client)
    assert all(old and new and old != new for old, new in zip(before, after, strict=True))


async def test_another_process_at_the_same_server_begins_nothing(own_server: RedisServer) -> None:
    async with open_redis(own_server.url) as first:
        before = await epochs(first)
        assert all(before), "the first connection begins the epochs that are missing"
        async with open_redis(own_server.url) as second:
            assert await epochs(second) == before


async def test_more_connections_to_the_same_server_begin_nothing(own_server: RedisServer) -> None:
    async with open_redis(own_server.url) as client:
        before = await epochs(client)
        await asyncio.gather(*(client.ping() for _ in range(10)))
        assert len(await client.client_list()) > 5
        assert await epochs(client) == before


async def test_a_redis_that_lost_everything_by_a_restart_begins_new_epochs(own_server: RedisServer) -> None:
    async with open_redis(own_server.url) as client:
        before = await epochs(client)
        await client.flushall()
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        after = await epochs(client)
    assert all(old and new and old != new for old, new in zip(before, after, strict=True))


async def test_services_with_few_rights_watch_it_too(own_server: RedisServer) -> None:
    async with open_redis(own_server.service_url) as client:
        assert all(await epochs(client))


async def test_an_epoch_grows_old_after_one_lease(desk: Desk) -> None:
    await desk.empty_redis(old=False)
    await desk.later(9_999)
    assert await desk.claim(order()) == Wait(timedelta(milliseconds=1))
    await desk.later(1)
    assert not isinstance(await desk.claim(order()), Wait)


async def test_after_the_clock_stepped_back_an_epoch_is_young_for_no_more_than_a_lease(desk: Desk) -> None:
    await desk.empty_redis(old=False)
    await desk.later(-3_600_000)
    assert await desk.claim(order()) == Wait(LEASE)


async def test_the_first_script_after_a_loss_begins_an_epoch(desk: Desk) -> None:
    await desk.redis.flushall()
    await desk.later(0)
    assert await desk.claim(order()) == Wait(LEASE)
    assert await desk.epoch() != b""


async def test_where_nobody_runs_epochs_count_as_old(own_server: RedisServer) -> None:
    async with open_redis(own_server.url) as client:
        await Epochs(client).count_as_old()
        store = TaskStore(client, lease=LEASE, status_ttl=timedelta(hours=1))
        await store.forget(TASK_ID, "owner", again=True)
        assert await claim(store) == Drop("forgotten")
        await client.delete(task_key(TASK_ID))
        assert not isinstance(await claim(store), Wait)


async def test_a_look_begins_what_is_missing_and_changes_nothing_else(redis: Redis) -> None:
    """So that a shard on which nothing happens grows old all the same, after Redis was emptied."""
    watch = Epochs(redis)
    await watch.look()
    begun = await epochs(redis)
    assert all(begun)
    await watch.look()
    assert await epochs(redis) == begun
