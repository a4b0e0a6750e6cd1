"""A task's log: lines have a place, a repeated call writes once, and only the holder of the newest token writes."""

import json

from redis.asyncio import Redis

from app.domain.log_line import LogLevel, LogRecord
from app.store.keys import logs_key, task_key
from app.store.lua import Script, source
from app.store.task_logs import TaskLogs
from tests.store.conftest import Desk, order
from tests.store.scripts import on_test_clock
from tests.store.stage import TASK_ID


def records(*messages: str) -> list[LogRecord]:
    """Return lines, a millisecond apart."""
    return [LogRecord(1000 + at, LogLevel.INFO, message) for at, message in enumerate(messages)]


async def test_lines_are_numbered_over_all_attempts(desk: Desk, redis: Redis) -> None:
    logs = TaskLogs(redis)
    first = await desk.running(order())
    assert await logs.append(TASK_ID, 1, first.token, records("a", "b"), after=0) == 2
    assert await logs.append(TASK_ID, 1, first.token, records("c"), after=2) == 3
    await desk.store.release(TASK_ID, 1, first.token, copy_id="m1-copy", charge=True, wait=desk.store.lease * 0)
    second = await desk.claim(order("m1-copy", attempt=1))
    assert await logs.append(TASK_ID, 1, second.token, records("d"), after=0) == 4  # type: ignore[union-attr]
    assert await logs.append(TASK_ID, 1, first.token, records("late"), after=3) == "LOST"
    assert [(line.line, line.message) for line in await logs.read(TASK_ID)] == [*enumerate("abcd", 1)]


async def test_a_call_that_is_sent_twice_writes_once(desk: Desk, redis: Redis) -> None:
    held = await desk.running(order())
    script, lines = Script(redis, "log"), json.dumps([[1, "info", "x"]])
    for _ in range(2):
        written = await script(TASK_ID, nonce="n", run=1, token=held.token, after=0, keep=10, lines=lines)
        assert written == [b"HELD", 1]
    assert await redis.xlen(logs_key(TASK_ID)) == 1


async def test_after_redis_was_emptied_counting_goes_on(desk: Desk, redis: Redis) -> None:
    logs, envelope = TaskLogs(redis), order()
    held = await desk.running(envelope)
    assert await logs.append(TASK_ID, 1, held.token, records("a", "b"), after=0) == 2
    await desk.empty_redis()
    assert await logs.append(TASK_ID, 1, held.token, records("c"), after=2) == "MISSING"
    assert not await redis.exists(logs_key(TASK_ID))
    await desk.store.restore(envelope, b"x", None, held.token, progress=0, worker="w", started_at=None)
    assert await logs.append(TASK_ID, 1, held.token, records("c"), after=2) == 3


async def test_a_log_goes_with_its_task(desk: Desk, redis: Redis) -> None:
    logs = TaskLogs(redis)
    held = await desk.running(order())
    await logs.append(TASK_ID, 1, held.token, records("a"), after=0)
    assert await redis.pttl(logs_key(TASK_ID)) == -1
    await redis.pexpire(logs_key(TASK_ID), 60_000)  # as an earlier run's end left it
    await logs.append(TASK_ID, 1, held.token, records("b"), after=1)
    assert await redis.pttl(logs_key(TASK_ID)) == -1
    await desk.store.settle(held.task)
    assert await redis.pttl(logs_key(TASK_ID)) == -1  # that was no end, but the state that it has
    assert await desk.store.forget(TASK_ID, "owner", again=True)
    assert not await redis.exists(logs_key(TASK_ID))
    assert await redis.exists(task_key(TASK_ID))


def test_the_script_needs_no_clock() -> None:
    """Lines carry the worker's time: the product's script runs as it is beside the others on the tests' clock."""
    assert "now()" not in source("log").partition("-- log:")[2]
    assert on_test_clock(source("log"))
