"""Epochs: each shard knows since when its Redis has what it has.

In a young epoch, one younger than a lease, nothing is rebuilt and nothing taken over: living workers restore their
tasks first. An epoch begins when a script misses it, and when a new connection leads to another Redis than before.
"""

from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from app.store.keys import SHARDS
from app.store.lua import Script


async def count_epochs_as_old(redis: Redis) -> None:
    """Let nothing wait for an epoch to grow old: no worker is alive that could restore anything."""
    renew = Script(redis, "renew_epoch")
    server: Any = (await redis.info("server"))["run_id"]
    for shard in range(SHARDS):
        await renew.on_shard(shard, nonce=uuid4().hex, server=server, old=1)
