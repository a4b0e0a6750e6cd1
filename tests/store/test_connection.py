"""The connection to Redis: whatever happens to it, callers are told in the words that they expect."""

import asyncio
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from app.store.connection import connect
from stack.servers import RedisServer


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_transport_that_was_closed_meanwhile_is_a_lost_connection(
    scratch_redis_server: RedisServer, factory: Any
) -> None:
    """And not a RuntimeError, as uvloop says it: that would end a beat, or the whole process."""

    async def write_to_a_closed_one() -> None:
        redis = connect(scratch_redis_server.url)
        pool: Any = redis.connection_pool
        connection = await pool.get_connection()
        try:
            connection._writer.transport.abort()
            with pytest.raises(RedisConnectionError):
                await _ping(connection)
        finally:
            await pool.release(connection)
        assert await redis.ping(), "the next call connects anew"
        await redis.aclose()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(write_to_a_closed_one())


async def _ping(connection: Any) -> None:
    await connection.send_command("PING")
    await connection.read_response()
