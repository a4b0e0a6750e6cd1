"""The connection to Redis: one bounded pool per process, and what a lost answer turns into."""

import re
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.domain.errors import ConfigurationError, StoreUnavailable
from app.observability.causes import cause_of
from app.settings import DEFAULT_TLS, TlsSettings
from app.store.keys import SHARDS, epoch_key, live_key
from app.store.lua import source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLDEST: Final = (6, 2)
POOL_SIZE: Final = 64
ANSWER_SECONDS: Final = 3.0
"""For an answer, and for a free connection. A script takes microseconds, and its write to a slow disk some 100 ms."""
_RUN_ID: Final = re.compile(rb"run_id:(\w+)")


def tls_options(url: str, tls: TlsSettings) -> dict[str, Any]:
    """Return what redis-py needs to check a server's certificate; nothing for a URL without TLS."""
    if not url.startswith("rediss:"):
        return {}
    return {
        "ssl_ca_certs": tls.ca_file and str(tls.ca_file),
        "ssl_certfile": tls.certificate_file and str(tls.certificate_file),
        "ssl_keyfile": tls.key_file and str(tls.key_file),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def connect(url: str, tls: TlsSettings = DEFAULT_TLS) -> Redis:
    """Return a client for commands; nothing is opened yet. One client serves the whole process.

    Where a connection is lost a call is sent at most three times within a few hundred milliseconds; then it is the
    caller's turn to wait. Where there is no answer it is not sent again: a Redis that hangs has had its time with the
    first, and whoever waits for us has, too. The health check stays off: in redis-py 8.1 the error of its PING escapes
    the retry.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        redis_connect_func=_ServerWatch().on_connect,
        max_connections=POOL_SIZE,
        timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=2,
        health_check_interval=0,
        retry=Retry(
            ExponentialWithJitterBackoff(base=0.05, cap=0.3),
            2,
            supported_errors=(RedisConnectionError,),
        ),
        **tls_options(url, tls),
    )
    return with_honest_connections(Redis.from_pool(pool))


def with_honest_connections(redis: Redis) -> Redis:
    """Let a client's connections raise ConnectionError when their transport was closed under them; return the client.

    uvloop raises RuntimeError then, and redis-py lets it through, as it does an AttributeError of its own that comes of
    a writer that was closed between its look and its use: no caller expects that of Redis, and no retry.
    """
    kind: Any = redis.connection_pool.connection_class

    class Honest(kind):  # type: ignore[misc]  # which one it is depends on the URL: plain, TLS, or a socket's
        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            try:
                await super().send_packed_command(command, check_health)
            except (RuntimeError, AttributeError) as error:
                if isinstance(error, AttributeError) and self._writer is not None:
                    raise
                raise RedisConnectionError("The connection was closed.") from error

    redis.connection_pool.connection_class = Honest
    return redis


def with_one_life(redis: Redis) -> Redis:
    """Let a client's connections stay lost once they are, where redis-py would connect them anew; return the client.

    Its Pub/Sub does so for whoever writes next: unseen by the one who reads, and while that one still reads.
    """
    kind: Any = redis.connection_pool.connection_class

    class OnceConnected(kind):  # type: ignore[misc]  # as above
        was_connected = False

        async def connect(self) -> None:
            if self.was_connected and not self.is_connected:
                raise RedisConnectionError("The connection was lost.")
            await super().connect()
            self.was_connected = True

    redis.connection_pool.connection_class = OnceConnected
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
        await connection.send_command("SCRIPT", "LOAD", source("renew_epoch"))
        script = await connection.read_response()
        for shard in range(SHARDS):
            names = {"nonce": uuid4().hex, "server": server[1], "old": "0"}
            flat = [part for pair in names.items() for part in pair]
            await connection.send_command(
                "EVALSHA", script, 3, epoch_key(shard), live_key(shard), epoch_key(shard), *flat
            )
            await connection.read_response()
        self._server = server[1]


@asynccontextmanager
async def open_redis(url: str, tls: TlsSettings = DEFAULT_TLS) -> "AsyncIterator[Redis]":
    """Open the process's client and close it.

    Raises:
        StoreUnavailable: Redis does not answer.
        ConfigurationError: It is older than 6.2.
    """
    redis = connect(url, tls)
    try:
        await _check_version(redis)
        yield redis
    finally:
        await redis.aclose()


async def _check_version(redis: Redis) -> None:
    try:
        version = str((await redis.info("server"))["redis_version"])
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis does not answer: {cause_of(error)}") from error
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ConfigurationError(f"Redis {version} is too old: 6.2 or newer is needed")


async def answers(redis: Redis) -> bool:
    """Return whether Redis answers a PING."""
    try:
        return bool(await redis.ping())
    except (RedisError, OSError):
        return False
