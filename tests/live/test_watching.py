"""What waits for one reader: only what is newer, every line, and the end, whatever Redis has forgotten."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.archive.archive import Archive, EndedTask, open_archive
from app.archive.upgrading import upgrade
from app.domain.errors import Overloaded, Restarting, Unauthorized
from app.domain.lifecycle import TaskStatus
from app.domain.log_line import LogLine
from app.domain.task import Task
from app.security.principal import DEFAULT_SCOPES, Principal
from app.service import watching as module
from app.service.status import Statuses
from app.service.watcher_places import WatcherPlaces
from app.service.watching import Event, Watching, _Feed
from app.settings import Settings
from app.store.keys import logs_key
from app.store.subscriptions import Subscriptions
from stack.servers import RedisServer
from tests.api.staging import Staging
from tests.support.service import configuration
from tests.support.waiting import wait_until


@dataclass
class Desk:
    """Watching, on a Redis and an archive that are empty, and a way to make tasks."""

    watching: Watching
    staging: Staging
    archive: Archive
    redis: Redis

    def principal(self, *, seconds: float = 3600) -> Principal:
        """Return the tasks' owner."""
        return Principal(self.staging.owner, DEFAULT_SCOPES, int(time.time() + seconds))


@pytest.fixture
async def desk(redis: Redis, scratch_redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Desk]:
    """Two readers are allowed."""
    settings = Settings.model_validate(configuration(scratch_redis_server.url, "amqp://x", tmp_path, 1))
    await upgrade(settings.archive_url.get_secret_value())
    subscriptions = Subscriptions(scratch_redis_server.url)
    reading = asyncio.create_task(subscriptions.run())
    staging = Staging(redis, settings, "alice", tmp_path)
    async with open_archive(settings.archive_url.get_secret_value()) as archive:
        statuses = Statuses(tasks=staging.store, lists=staging.lists, archive=archive)
        watching = Watching(
            statuses=statuses, subscriptions=subscriptions, logs=staging.logs, places=WatcherPlaces(total=2, each=2)
        )
        yield Desk(watching, staging, archive, redis)
        assert not watching._feeds, "a feed was left behind"
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


async def next_of(events: AsyncIterator[Event], kind: type[Any]) -> Any:
    """Return the next event of a kind."""
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("the feed has ended")


class Wire:
    """A reader who takes events on the spot, while he is free."""

    def __init__(self) -> None:
        self.free = True
        self.taken: list[Event] = []

    def is_free(self) -> bool:
        return self.free

    def take(self, event: Event) -> None:
        self.taken.append(event)


async def waiting_reader(desk: Desk, events: AsyncIterator[Event]) -> tuple[_Feed, asyncio.Future[Event]]:
    """Wait for the next event of the only feed, which has handed on everything."""
    (feed,) = desk.watching._feeds
    waiting = asyncio.ensure_future(asyncio.wait_for(anext(events), 10))

    async def idle() -> bool:
        return feed._is_idle

    await wait_until(idle, what="a feed that waits")
    return feed, waiting


async def test_an_end_that_redis_has_never_shown_is_found(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row was written, and Redis was emptied before it was settled: nothing is ever published of it."""
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.2)
    (task_id, _), principal = await desk.staging.processing(), desk.principal()
    async with (
        desk.watching.task(task_id, principal=principal) as one,
        desk.watching.everything(principal=principal) as every,
    ):
        seen = await next_of(one, Task)
        assert await next_of(every, Task) == seen
        await desk.redis.flushall()
        ended = seen._replace(status=TaskStatus.COMPLETED, seq=seen.seq + 16, finished_at=datetime.now(UTC))
        await desk.archive.insert(EndedTask(ended))
        assert (await next_of(one, Task)).status is TaskStatus.COMPLETED
        assert (await next_of(every, Task)).status is TaskStatus.COMPLETED
        with pytest.raises(StopAsyncIteration):
            async with asyncio.timeout(20):
                await anext(one)


async def test_a_waiting_task_that_redis_has_forgotten_is_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.05)
    task_id = await desk.staging.pending()
    async with desk.watching.task(task_id, principal=desk.principal()) as events:
        seen = await next_of(events, Task)
        await desk.redis.flushall()
        for _ in range(3):
            await next_of(events, module.Heartbeat)
        await desk.staging.pending(task_id=task_id)  # as its message does
        assert (await next_of(events, Task)).seq > seen.seq


async def test_an_older_state_is_never_handed_on(desk: Desk) -> None:
    task_id, token = await desk.staging.processing()
    async with (
        desk.watching.task(task_id, principal=desk.principal()) as one,
        desk.watching.everything(principal=desk.principal()) as every,
    ):
        first = await next_of(one, Task)
        await next_of(every, Task)
        for feed in list(desk.watching._feeds):
            feed.published(first._replace(seq=first.seq - 1, progress=90))
            feed.published(first._replace(progress=90))
        await desk.staging.store.beat(task_id, 1, token, progress=5, message=None)
        assert (await next_of(one, Task)).progress == 5
        assert (await next_of(every, Task)).progress == 5
        for feed in list(desk.watching._feeds):  # before the reader has come to the newer one, too
            feed.published(first._replace(seq=first.seq + 20, progress=20))
            feed.published(first._replace(seq=first.seq + 10, progress=10))
        assert (await next_of(one, Task)).progress == 20
        assert (await next_of(every, Task)).progress == 20


async def test_lines_that_were_never_heard_of_are_read_before_the_next(desk: Desk) -> None:
    task_id, token = await desk.staging.processing()
    async with desk.watching.task(task_id, principal=desk.principal()) as events:
        await next_of(events, Task)
        await desk.staging.log(task_id, token, "one")
        assert (await next_of(events, LogLine)).line == 1
        for number in range(2, 11):  # without publishing them
            entry: Any = {"call": "x", "time": "1", "level": "info", "message": str(number)}
            await desk.redis.xadd(logs_key(task_id), entry, id=f"{number}-0")
        (feed,) = desk.watching._feeds
        feed.logged((await desk.staging.logs.read(task_id))[8:])
        assert [(await next_of(events, LogLine)).line for _ in range(9)] == [*range(2, 11)]


async def test_lines_that_come_out_of_turn_are_read_from_the_store(desk: Desk) -> None:
    """A gap, a repetition, and more than may wait: each line once, in order."""
    task_id, token = await desk.staging.processing()
    async with desk.watching.task(task_id, principal=desk.principal()) as events:
        await next_of(events, Task)
        await desk.staging.log(task_id, token, *map(str, range(1, 250)))
        (feed,) = desk.watching._feeds
        lines = await desk.staging.logs.read(task_id)
        feed.logged(lines[100:110])
        feed.logged(lines[:10])
        await desk.staging.end(task_id)
        seen = [event.line async for event in events if isinstance(event, LogLine)]
    assert seen == list(range(1, 250))


async def test_there_are_no_more_readers_than_may_be(desk: Desk) -> None:
    task_id, principal = await desk.staging.pending(), desk.principal()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(desk.watching.task(task_id, principal=principal))
        with pytest.raises(Overloaded):
            await stack.enter_async_context(desk.watching.everything(principal=principal))
    async with desk.watching.everything(principal=principal):
        pass


async def test_a_process_that_stops_ends_every_feed_and_opens_no_more(desk: Desk) -> None:
    task_id, principal = await desk.staging.pending(), desk.principal()
    async with desk.watching.task(task_id, principal=principal) as events:
        await next_of(events, Task)
        waiting = asyncio.create_task(
            desk.watching.wait(task_id, principal=principal, seconds=60, enough=lambda task: task.status.is_terminal)
        )
        while len(desk.watching._feeds) < 2:
            await asyncio.sleep(0.01)
        desk.watching.stop()
        with pytest.raises(Restarting):
            await next_of(events, Task)
        async with asyncio.timeout(20):
            assert (await waiting).status is TaskStatus.PENDING
    with pytest.raises(Restarting):
        async with desk.watching.task(task_id, principal=principal):
            pass


async def test_a_feed_ends_with_its_token(desk: Desk) -> None:
    task_id = await desk.staging.pending()
    async with desk.watching.task(task_id, principal=desk.principal(seconds=1)) as events:
        await next_of(events, Task)
        with pytest.raises(Unauthorized):
            await next_of(events, Task)


async def test_a_free_wire_is_told_on_the_spot_and_a_busy_one_only_the_newest_later(desk: Desk) -> None:
    (task_id, _), wire = await desk.staging.processing(), Wire()
    async with desk.watching.task(task_id, principal=desk.principal(), wire=wire) as events:
        first = await next_of(events, Task)
        feed, waiting = await waiting_reader(desk, events)
        newer = [first._replace(seq=first.seq + number, progress=number) for number in range(5)]
        feed.published(newer[1])
        feed.published(newer[1])
        assert wire.taken == [newer[1]]
        wire.free = False
        feed.published(newer[2])
        feed.published(newer[3])
        wire.free = True
        feed.published(newer[2])  # the reader's task has been woken, and comes first
        assert await waiting == newer[3]
        feed, waiting = await waiting_reader(desk, events)
        end = newer[4]._replace(status=TaskStatus.COMPLETED)
        feed.published(end)
        feed.published(newer[4]._replace(seq=end.seq + 1))  # it runs again: another reader's story
        assert wire.taken == [newer[1], end]
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_lines_go_by_the_wire_until_one_was_missed(desk: Desk) -> None:
    (task_id, token), wire = await desk.staging.processing(), Wire()
    async with desk.watching.task(task_id, principal=desk.principal(), wire=wire) as events:
        await next_of(events, Task)
        feed, waiting = await waiting_reader(desk, events)
        await desk.staging.log(task_id, token, "one")

        async def told() -> bool:
            return bool(wire.taken)

        await wait_until(told, what="the line")
        for number in (2, 3):  # without publishing them
            entry: Any = {"call": "x", "time": "1", "level": "info", "message": str(number)}
            await desk.redis.xadd(logs_key(task_id), entry, id=f"{number}-0")
        lines = await desk.staging.logs.read(task_id)
        feed.logged(lines[2:])
        assert [await waiting, await next_of(events, LogLine)] == lines[1:]
        assert wire.taken == lines[:1]
