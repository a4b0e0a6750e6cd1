"""HandSet: ended tasks whose status an operator has set to PENDING by hand.

They are on no list, so all hashes are walked through. Each is looked at inside of Redis, a shard's together: to fetch
5,000 hashes' fields took a worker's loop 0.3 s of every two.
"""

from collections import defaultdict
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.store.keys import TASK_PATTERN, shard_of, task_of_key
from app.store.lua import LoadedText, text_of


class HandSet:
    """A walk through all hashes of tasks."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = LoadedText(redis, text_of("hand_set"))
        self._cursor = 0

    async def walk_on(self, *, count: int) -> list[UUID]:
        """Look at about so many keys more; return those tasks among them. After the last key it begins anew.

        Raises:
            StoreUnavailable: No answer in time: the next call looks at the same ones.
        """
        try:
            scanned: Any = await self._redis.scan(self._cursor, match=TASK_PATTERN, count=count)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        cursor, keys = scanned
        shards: defaultdict[int, list[str]] = defaultdict(list)
        for key in map(bytes.decode, keys):
            shards[shard_of(task_of_key(key))].append(key)
        found: list[bytes] = [key for shard in shards.values() for key in await self._script.run(shard, ())]
        self._cursor = cursor
        return [task_of_key(key.decode()) for key in found]
