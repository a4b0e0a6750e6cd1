"""The connection to Redis: one bounded pool per process, and what a lost answer turns into."""

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.domain.errors import ConfigurationError, StoreUnavailable
from app.store.keys import SHARDS, epoch_key, live_key
from app.store.lua import source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLDEST: Final = (6, 2)
POOL_SIZE: Final = 64
_RUN_ID: Final = re.compile(rb"run_id:(\w+)")


def connect(url: str) -> Redis:
    """Return a client for commands; nothing is opened yet. One client serves the whole process.

    A call is sent at most three times within a few hundred milliseconds; then it is the caller's turn to wait. The
    health check stays off: in redis-py 8.1 the error of its PING escapes the retry.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        redis_connect_func=_ServerWatch().on_connect,
        max_connections=POOL_SIZE,
        timeout=5,
        socket_timeout=5,
        socket_connect_timeout=2,
        health_check_interval=0,
        retry=Retry(
            ExponentialWithJitterBackoff(base=0.05, cap=0.3),
            2,
            supported_errors=(RedisConnectionError, RedisTimeoutError),
        ),
    )
    return with_honest_connections(Redis.from_pool(pool))


def with_honest_connections(redis: Redis) -> Redis:
    """Let a client's connections raise ConnectionError when their transport was closed under them; return the client.

    uvloop raises RuntimeError then, and redis-py lets it through: no caller expects that of Redis, and no retry.
    """
    kind: Any = redis.connection_pool.connection_class

    class Honest(kind):  # type: ignore[misc]  # which one it is depends on the URL: plain, TLS, or a socket's
        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            try:
                await super().send_packed_command(command, check_health)
            except RuntimeError as error:
                raise RedisConnectionError("The connection was closed.") from error

    redis.connection_pool.connection_class = Honest
    return redis


class _ServerWatch:
    """Sees with each new connection whether it leads to another Redis process than before; if so, begins new epochs.

    It happens before the connection carries anything else: no claim trusts the epoch of a Redis that has lost data.
    """

    def __init__(self) -> None:
        self._server = b""

    async def on_connect(self, connection: Any) -> None:
        """Log in, as redis-py would without this, and look. redis-py calls no overridden `on_connect` of a class."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        server = _RUN_ID.search(await connection.read_response())
        if server is None or server[1] == self._server:
            return
        for shard in range(SHARDS):
            names = {"nonce": uuid4().hex, "server": server[1], "old": "0"}
            flat = [part for pair in names.items() for part in pair]
            await connection.send_command(
                "EVAL", source("renew_epoch"), 3, epoch_key(shard), live_key(shard), epoch_key(shard), *flat
            )
            await connection.read_response()
        self._server = server[1]


@asynccontextmanager
async def open_redis(url: str) -> "AsyncIterator[Redis]":
    """Open the process's client and close it.

    Raises:
        StoreUnavailable: Redis does not answer.
        ConfigurationError: It is older than 6.2.
    """
    redis = connect(url)
    try:
        await _check_version(redis)
        yield redis
    finally:
        await redis.aclose()


async def _check_version(redis: Redis) -> None:
    try:
        version = str((await redis.info("server"))["redis_version"])
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ConfigurationError(f"Redis {version} is too old: 6.2 or newer is needed")


async def answers(redis: Redis) -> bool:
    """Return whether Redis answers a PING."""
    try:
        return bool(await redis.ping())
    except (RedisError, OSError):
        return False
