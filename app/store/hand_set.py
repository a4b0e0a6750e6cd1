"""HandSet: ended tasks whose status an operator has set to PENDING by hand.

They are on no list, so all hashes are walked through. Each is looked at inside of Redis, a shard's together: to fetch
5,000 hashes' fields took a worker's loop 0.3 s of every two.
"""

from collections import defaultdict
from importlib.resources import files
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.store.keys import TASK_PATTERN, shard_of


class HandSet:
    """A walk through all hashes of tasks."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        source = (files("app.store") / "scripts" / "hand_set.lua").read_text(encoding="utf-8")
        self._script = redis.register_script(source)
        self._cursor = 0

    async def walk_on(self, *, count: int) -> list[UUID]:
        """Look at about so many keys more; return those tasks among them. After the last key it begins anew.

        Raises:
            StoreUnavailable: No answer in time: the next call looks at the same ones.
        """
        try:
            scanned: Any = await self._redis.scan(self._cursor, match=TASK_PATTERN, count=count)
            cursor, keys = scanned
            shards: defaultdict[int, list[bytes]] = defaultdict(list)
            for key in keys:
                shards[shard_of(_task_of(key))].append(key)
            found: list[Any] = [key for shard in shards.values() for key in await self._script(keys=shard)]
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        self._cursor = cursor
        return [_task_of(key) for key in found]


def _task_of(key: bytes) -> UUID:
    return UUID(key.decode().rpartition(":")[2])
