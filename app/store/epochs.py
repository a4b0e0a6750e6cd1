"""Epochs: each shard knows since when its Redis has what it has.

In a young epoch, one younger than a lease, nothing is rebuilt and nothing taken over: living workers restore their
tasks first. An epoch begins when a script misses it, and when a new connection leads to another Redis than before.
"""

from typing import Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.store.keys import SHARDS
from app.store.lua import Script


class Epochs:
    """The epochs of all shards."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._renew = Script(redis, "renew_epoch")

    async def look(self) -> None:
        """Begin those that are missing now, and not when somebody needs them: they grow old from here on.

        Raises:
            StoreUnavailable: No answer in time.
        """
        await self._renew_all(old=0)

    async def count_as_old(self) -> None:
        """Let nothing wait for an epoch to grow old: no worker is alive that could restore anything.

        Raises:
            StoreUnavailable: No answer in time.
        """
        await self._renew_all(old=1)

    async def _renew_all(self, *, old: int) -> None:
        try:
            server: Any = (await self._redis.info("server"))["run_id"]
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        for shard in range(SHARDS):
            await self._renew.on_shard(shard, nonce=uuid4().hex, server=server, old=old)
