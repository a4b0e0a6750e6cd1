"""What a handler logs: it holds nobody up, is bounded, survives an outage of Redis, and is written before the end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from app.domain.envelope import Envelope
from app.domain.log_line import LogLevel, LogRecord
from app.domain.task import Owner
from app.store.connection import connect
from app.store.replies import Claimed, Created
from app.store.task_logs import TaskLogs
from app.store.tasks import TaskStore
from stack.ports import free_port
from stack.servers import RedisServer
from tests.support.waiting import wait_until
from workers.job import MAX_LOG_LINE, MAX_LOG_LINES, log_records
from workers.task_log import MOST_WAITING, TaskLog

HOUR = timedelta(hours=1)


@dataclass
class Desk:
    """A task that an attempt is at, and the attempt's log."""

    redis: Redis
    store: TaskStore
    logs: TaskLogs
    envelope: Envelope
    token: int
    log: TaskLog

    @property
    def task_id(self) -> UUID:
        """The task."""
        return self.envelope.task_id

    async def written(self) -> list[str]:
        """Return the lines that are there."""
        return [line.message for line in await self.logs.read(self.task_id)]

    async def wait_for(self, *messages: str) -> None:
        """Wait until these lines are there, and no others."""

        async def there() -> bool:
            return await self.written() == [*messages]

        await wait_until(there, timeout=20, what="the lines")


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may stop."""
    server = RedisServer(tmp_path_factory.mktemp("log-redis"), free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def desk(own_server: RedisServer) -> AsyncIterator[Desk]:
    """The task runs."""
    redis = connect(own_server.url)
    store = TaskStore(redis, lease=HOUR, status_ttl=HOUR)
    envelope = Envelope(
        task_id=uuid4(),
        message_id="m",
        action="noop",
        queue="bench",
        owner=Owner("issuer", "subject"),
        params={},
        max_attempts=5,
        created_at=1,
    )
    created = await store.create(envelope, b"sealed")
    assert isinstance(created, Created)
    await store.queued(envelope, created.epoch)
    claimed = await store.claim(envelope, b"sealed", checkpoint=None, worker="w", copy_id="c")
    assert isinstance(claimed, Claimed)
    logs = TaskLogs(redis)
    log = TaskLog(logs, envelope.task_id, 1, claimed.token)
    yield Desk(redis, store, logs, envelope, claimed.token, log)
    await log.close()
    await redis.aclose()


def said(*messages: str) -> list[LogRecord]:
    """Return lines."""
    return [LogRecord(0, LogLevel.INFO, message) for message in messages]


async def test_lines_are_written_by_themselves_in_order(desk: Desk) -> None:
    for message in "abc":
        desk.log.add(said(message))
    await desk.wait_for(*"abc")
    desk.log.add(said("d"))
    await desk.log.finish()
    assert await desk.written() == [*"abcd"]
    desk.log.add(said("too late"))
    await asyncio.sleep(0)
    assert await desk.written() == [*"abcd"]


async def test_an_outage_loses_nothing_that_can_wait(desk: Desk, own_server: RedisServer) -> None:
    await asyncio.to_thread(own_server.stop)
    desk.log.add(said("a", "b"))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(own_server.start)
    await desk.wait_for("a", "b")


async def test_when_redis_was_emptied_lines_wait_until_the_task_is_back(desk: Desk) -> None:
    desk.log.add(said("lost with Redis"))
    await desk.wait_for("lost with Redis")
    await desk.redis.flushall()
    desk.log.add(said("a"))
    await asyncio.sleep(0.5)
    assert await desk.written() == []
    await desk.store.restore(desk.envelope, b"x", None, desk.token, progress=0, worker="w", started_at=None)
    await desk.wait_for("a")
    assert [line.line for line in await desk.logs.read(desk.task_id)] == [2]


async def test_what_is_too_much_is_left_out_and_the_log_says_so(desk: Desk) -> None:
    desk.log.add(said(*map(str, range(MOST_WAITING + 50))))
    await desk.log.finish()
    notice, *lines = await desk.written()
    assert notice == "(50 lines were left out)"
    assert lines == [str(number) for number in range(50, MOST_WAITING + 50)]


async def test_who_has_lost_the_task_writes_no_more(desk: Desk) -> None:
    log = TaskLog(desk.logs, desk.task_id, 1, desk.token - 1)
    log.add(said("a"))
    await log.finish()
    assert await desk.written() == []


async def test_an_end_does_not_wait_for_a_redis_that_is_away(desk: Desk, own_server: RedisServer) -> None:
    await asyncio.to_thread(own_server.stop)
    desk.log.add(said("a"))
    async with asyncio.timeout(15):
        await desk.log.finish()


def test_what_a_handler_says_becomes_lines() -> None:
    assert [record.message for record in log_records("one\ntwo\r\n", "info")] == ["one", "two"]
    assert [record.message for record in log_records("", "info")] == [""]
    (long,) = log_records("x" * 10_000 + "\ud800", "error")
    assert (len(long.message), long.level) == (MAX_LOG_LINE, "error")
    log_records("\ud800", "debug")[0].message.encode()
    assert len(log_records("\n" * 10_000, "warning")) == MAX_LOG_LINES
    with pytest.raises(ValueError, match="loud"):
        log_records("x", "loud")
