"""Live updates: one connection for everybody, counted channels, and a word to all when something may be missed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from app.domain.errors import StoreUnavailable
from app.domain.log_line import LogLine
from app.domain.task import Task
from app.store import subscriptions as module
from app.store.keys import PUBLIC_FIELDS, owner_channel, task_key
from app.store.subscriptions import Subscriptions
from stack.servers import RedisServer
from tests.store.stage import TASK_ID
from tests.support.waiting import wait_until

OWNER, OTHER = "a" * 32, "b" * 32


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.lines: list[LogLine] = []
        self.interruptions = 0

    def published(self, task: Task) -> None:
        self.tasks.append(task)

    def logged(self, lines: list[LogLine]) -> None:
        self.lines += lines

    def interrupted(self) -> None:
        self.interruptions += 1


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Subscriptions]:
    """Subscriptions whose reader runs; it must not have died by the end."""
    subscriptions = Subscriptions(url)
    reader = asyncio.create_task(subscriptions.run())
    try:
        yield subscriptions
        if reader.done():
            await reader
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader


async def publish(redis: Redis, *, owner: str = OWNER, message: str = "½") -> None:
    """Publish a PENDING task, as the scripts do."""
    fields = {"owner": owner, "action": "noop", "queue": "bench", "status": "PENDING", "seq": "7", "run": "1"}
    fields |= {"attempt": "0", "max_attempts": "2", "progress": "0", "created_at": "1", "message": message}
    values = [fields.get(name, False) for name in PUBLIC_FIELDS]
    await redis.publish(owner_channel(owner), json.dumps([task_key(TASK_ID), values]))


async def channels(redis: Redis) -> set[str]:
    """Return the channels to which anybody is subscribed."""
    found: Any = await redis.pubsub_channels()
    return {channel.decode() for channel in found}


async def subscribers(redis: Redis) -> int:
    """Return how many connections are subscribed to anything."""
    return len(await redis.client_list(_type="pubsub"))


async def connections_made(redis: Redis) -> int:
    """Return how many connections Redis has been asked for so far."""
    stats: dict[str, Any] = await redis.info("stats")
    return int(stats["total_connections_received"])


async def test_what_is_published_inside_of_the_block_is_heard(own_server: RedisServer, own_redis: Redis) -> None:
    watcher = Watcher()
    async with reading(own_server.url) as subscriptions, subscriptions.listening(OWNER, watcher):
        await publish(own_redis)

        async def heard() -> bool:
            return bool(watcher.tasks)

        await wait_until(heard)
    assert [(task.id, task.message, task.seq) for task in watcher.tasks] == [(TASK_ID, "½", 7)]


async def test_many_listeners_share_one_connection(own_server: RedisServer, own_redis: Redis) -> None:
    watchers = [Watcher() for _ in range(20)]
    async with reading(own_server.url) as subscriptions, AsyncExitStack() as stack:
        for at, watcher in enumerate(watchers):
            await stack.enter_async_context(subscriptions.listening(OWNER if at % 2 else OTHER, watcher))
        assert await subscribers(own_redis) == 1
        await publish(own_redis)

        async def heard() -> bool:
            return sum(len(watcher.tasks) for watcher in watchers) == 10

        await wait_until(heard)
    assert all(len(watcher.tasks) == at % 2 for at, watcher in enumerate(watchers))


async def test_a_channel_is_left_with_its_last_listener(own_server: RedisServer, own_redis: Redis) -> None:
    async with reading(own_server.url) as subscriptions:
        async with subscriptions.listening(OTHER, Watcher()), subscriptions.listening(OWNER, Watcher()):
            async with subscriptions.listening(OWNER, Watcher()):
                assert await channels(own_redis) == {owner_channel(OWNER), owner_channel(OTHER)}
            assert await channels(own_redis) == {owner_channel(OWNER), owner_channel(OTHER)}

        async def left() -> bool:
            return await channels(own_redis) == set()

        await wait_until(left)


async def test_after_a_restart_of_redis_listeners_are_told_and_hear_again(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.02)
    watcher = Watcher()
    async with reading(own_server.url) as subscriptions, subscriptions.listening(OWNER, watcher):
        await asyncio.to_thread(own_server.stop)
        await asyncio.to_thread(own_server.start)

        async def told() -> bool:
            return watcher.interruptions == 1

        await wait_until(told)
        async with Redis.from_url(own_server.url) as redis:
            await publish(redis)

        async def heard() -> bool:
            return bool(watcher.tasks)

        await wait_until(heard)
    assert watcher.interruptions == 1


async def test_the_reader_outlives_a_restart_while_nobody_listens(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.02)
    watcher = Watcher()
    async with reading(own_server.url) as subscriptions:
        async with subscriptions.listening(OWNER, Watcher()):
            pass
        await asyncio.to_thread(own_server.stop)
        await asyncio.to_thread(own_server.start)
        async with Redis.from_url(own_server.url) as redis:

            async def connected_anew() -> bool:
                return await subscribers(redis) == 1 or subscriptions._pubsub is not None

            await wait_until(connected_anew)
            async with subscriptions.listening(OWNER, watcher):
                await publish(redis)

                async def heard() -> bool:
                    return bool(watcher.tasks)

                await wait_until(heard)


async def test_whoever_comes_while_the_connection_is_being_made_is_heard(
    own_server: RedisServer, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 2.0)
    late_one, waiting = Watcher(), asyncio.Event()
    async with reading(own_server.url) as subscriptions, AsyncExitStack() as stack:
        client = subscriptions._client()
        pool: Any = client.connection_pool
        get_connection = pool.get_connection

        async def slow_connection(*args: object, **options: object) -> object:
            await waiting.wait()
            return await get_connection()

        monkeypatch.setattr(pool, "get_connection", slow_connection)
        monkeypatch.setattr(subscriptions, "_client", lambda: client)
        first = asyncio.create_task(stack.enter_async_context(subscriptions.listening(OWNER, Watcher())))

        async def connecting() -> bool:
            return subscriptions._wanted.is_set()

        await wait_until(connecting)
        await asyncio.sleep(0)  # the reader has begun to connect
        second = asyncio.create_task(stack.enter_async_context(subscriptions.listening(OTHER, late_one)))
        await asyncio.sleep(0)  # the second listener waits for its confirmation
        waiting.set()
        await asyncio.gather(first, second)
        await publish(own_redis, owner=OTHER)

        async def heard() -> bool:
            return bool(late_one.tasks)

        await wait_until(heard)


async def test_a_confirmation_meant_for_somebody_who_has_left_is_made_good(own_server: RedisServer) -> None:
    """Left before he was confirmed: Redis answers subscribe, unsubscribe, subscribe, and the first is not ours."""
    watcher, channel = Watcher(), owner_channel(OWNER).encode()
    async with reading(own_server.url) as subscriptions, subscriptions.listening(OWNER, watcher):
        subscriptions._hand_on({"type": "unsubscribe", "channel": channel})
        assert watcher.interruptions == 0
        subscriptions._hand_on({"type": "subscribe", "channel": channel})
        assert watcher.interruptions == 1


async def test_who_comes_to_a_lost_connection_does_not_make_it_anew(
    own_server: RedisServer, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py would: unseen by the reader, which may be reading from it. Found by chaos."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.02)
    watcher = Watcher()
    async with reading(own_server.url) as subscriptions, subscriptions.listening(OWNER, watcher):
        before = await connections_made(own_redis)
        assert subscriptions._pubsub is not None
        connection: Any = subscriptions._pubsub.connection
        connection._writer.transport.abort()
        with pytest.raises(StoreUnavailable):
            async with subscriptions.listening(OTHER, Watcher()):
                pass

        async def told() -> bool:
            return watcher.interruptions == 1

        await wait_until(told)
        await publish(own_redis)

        async def heard() -> bool:
            return bool(watcher.tasks)

        await wait_until(heard)
        assert await connections_made(own_redis) == before + 1


async def test_without_redis_listening_is_refused(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.1)
    own_server.stop()
    async with reading(own_server.url) as subscriptions:
        with pytest.raises(StoreUnavailable):
            async with subscriptions.listening(OWNER, Watcher()):
                pass
        assert not subscriptions._listeners
