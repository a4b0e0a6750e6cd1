"""Commands share round trips, and nobody notices: each caller has its own answer, its own error, its own life."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from app.domain.errors import StoreUnavailable
from app.store.batching import FULL_GROUPS_IN_FLIGHT, GROUP_BYTES, GROUPS_IN_FLIGHT, RoundTrips
from app.store.lua import LoadedText
from app.store.tasks import TaskStore
from stack.servers import RedisServer
from tests.store.cast import sealed
from tests.store.conftest import order
from tests.store.scripts import LEASE, STATUS_TTL


@pytest.fixture
async def writes(redis: Redis) -> AsyncIterator[list[int]]:
    """Return the sizes of what is written to Redis."""
    sizes: list[int] = []
    kind: Any = redis.connection_pool.connection_class

    class Counted(kind):  # type: ignore[misc]
        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            sizes.append(sum(map(len, command)))
            await super().send_packed_command(command, check_health)

    await redis.connection_pool.disconnect()
    pool: Any = redis.connection_pool
    pool.reset()
    pool.connection_class = Counted
    await asyncio.gather(redis.ping(), redis.ping())  # two connections, with their greetings sent
    sizes.clear()
    yield sizes
    redis.connection_pool.connection_class = kind


async def test_what_is_called_in_one_tick_is_one_write(redis: Redis, writes: list[int]) -> None:
    trips = RoundTrips.of(redis)
    answers = await asyncio.gather(*(trips.call("INCR", "n") for _ in range(500)))
    assert answers == list(range(1, 501))
    assert len(writes) == 1


async def test_a_group_is_bounded_by_what_redis_reads_at_once(redis: Redis, writes: list[int]) -> None:
    trips = RoundTrips.of(redis)
    await asyncio.gather(*(trips.call("SET", "key", "x" * (GROUP_BYTES // 4)) for _ in range(9)))
    assert len(writes) == 3
    assert max(writes) < 1.3 * GROUP_BYTES
    assert trips._waiting_bytes == 0


async def test_a_call_that_leads_goes_with_the_next_one_and_before_it(redis: Redis, writes: list[int]) -> None:
    """Also where a group would have been full between them, and the next one gone ahead over another connection."""
    trips = RoundTrips.of(redis)
    last = 3
    for number in range(20):
        calls: list[Any] = [trips.call("SET", "key", "x" * GROUP_BYTES) for _ in range(last)]
        calls += [trips.call("SET", "number", number, leads=True), trips.call("GET", "number")]
        assert (await asyncio.gather(*calls))[-1] == str(number).encode()
    writes.clear()
    full = trips.call("SET", "key", "x" * GROUP_BYTES, leads=True)
    assert await trips.call("GET", "key") == b"x" * GROUP_BYTES
    assert await full == b"OK"
    assert len(writes) == 1


async def test_full_groups_do_not_wait_for_each_other(own_server: RedisServer) -> None:
    """Two small ones are under way at most, so that the next one gathers; but as many full ones as there may be."""
    async with Redis.from_url(own_server.url) as redis:
        trips = RoundTrips.of(redis)
        full = "x" * GROUP_BYTES
        calls = [trips.call("SET", "key", full) for _ in range(2 * FULL_GROUPS_IN_FLIGHT)]
        await asyncio.sleep(0)
        assert len(trips._under_way) == FULL_GROUPS_IN_FLIGHT
        assert await asyncio.gather(*calls) == [b"OK"] * len(calls)
        for _ in range(5):
            calls.append(trips.call("PING"))
            await asyncio.sleep(0)
        assert len(trips._under_way) <= GROUPS_IN_FLIGHT
        await asyncio.gather(*calls)


async def test_a_submission_costs_a_part_of_a_round_trip_when_many_come_together(
    redis: Redis, writes: list[int]
) -> None:
    """Sixty-four at a time, with two scripts each: of the long ones a dozen share a write, of the short ones more."""
    store = TaskStore(redis, lease=LEASE, status_ttl=STATUS_TTL)

    async def promised() -> None:
        envelope = order(task_id=uuid4())
        created = await store.create(envelope, sealed(envelope))
        assert await store.queued(envelope, created.epoch)  # type: ignore[union-attr]

    await promised()  # Redis knows the scripts
    writes.clear()
    await asyncio.gather(*(promised() for _ in range(64)))
    assert len(writes) <= 10, f"{len(writes)} writes for 128 scripts"


async def test_one_commands_error_is_its_own_callers(redis: Redis) -> None:
    trips = RoundTrips.of(redis)
    await trips.call("SET", "text", "abc")
    answers: Any = await asyncio.gather(
        trips.call("GET", "text"), trips.call("INCR", "text"), trips.call("GET", "text"), return_exceptions=True
    )
    assert answers[0] == answers[2] == b"abc"
    assert isinstance(answers[1], ResponseError)


async def test_what_cannot_be_sent_fails_where_it_is_called(redis: Redis) -> None:
    trips = RoundTrips.of(redis)
    well = trips.call("PING")
    with pytest.raises(TypeError):
        trips.call("SET", "key", object())  # type: ignore[arg-type]
    assert await well == b"PONG"


async def test_a_cancelled_caller_leaves_its_command_and_the_others_answers_alone(redis: Redis) -> None:
    trips = RoundTrips.of(redis)

    async def count() -> Any:
        return await trips.call("INCR", "n")

    callers = [asyncio.create_task(count()) for _ in range(3)]
    await asyncio.sleep(0)
    callers[1].cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert (answers[0], answers[2]) == (1, 3)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert await redis.get("n") == b"3", "what was called has happened"


async def test_a_lost_connection_sends_the_group_again_and_a_dead_server_is_told_to_all(
    own_server: RedisServer,
) -> None:
    async with Redis.from_url(own_server.url) as redis:
        trips = RoundTrips.of(redis)
        await trips.call("PING")
        await redis.client_kill_filter(_type="normal", skipme=True)
        assert await asyncio.gather(*(trips.call("PING") for _ in range(5))) == [b"PONG"] * 5
        own_server.kill()
        try:
            failed = await asyncio.gather(*(trips.call("PING") for _ in range(5)), return_exceptions=True)
        finally:
            own_server.start()
        assert all(isinstance(error, RedisError | OSError) for error in failed)
        assert await trips.call("PING") == b"PONG", "the next group connects anew"


async def test_who_waits_behind_a_redis_that_hangs_does_not_wait_twice(own_server: RedisServer) -> None:
    async with Redis.from_url(own_server.url, socket_timeout=0.5) as redis:
        trips = RoundTrips.of(redis)
        await trips.call("PING")
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            calls = []
            for _ in range(4):  # two groups go, two wait
                calls.append(trips.call("PING"))
                await asyncio.sleep(0.05)
            async with asyncio.timeout(0.9):
                failed = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        assert all(isinstance(error, RedisError) for error in failed)


async def test_a_script_that_redis_has_forgotten_is_loaded_again(redis: Redis) -> None:
    text = LoadedText(redis, "return ARGV[1]")
    assert await asyncio.gather(*(text.run([], [str(n)]) for n in range(5))) == [b"0", b"1", b"2", b"3", b"4"]
    await redis.script_flush()
    assert await text.run([], ["again"]) == b"again"


async def test_a_scripts_own_error_is_no_answer_of_the_store(redis: Redis) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await LoadedText(redis, "return redis.error_reply('broken')").run([], [])
    assert not isinstance(caught.value.__cause__, NoScriptError)
