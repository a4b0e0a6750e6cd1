"""OwnerLists: which tasks are whose. A set of ids for each owner, newest first; the tasks stand in their hashes."""

import asyncio
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.envelope import Envelope
from app.domain.errors import StoreUnavailable
from app.store.keys import owner_id, owner_tasks_key

LIST_TTL: Final = timedelta(days=90)


class OwnerLists:
    """The owners' lists. Each method raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, envelope: Envelope) -> None:
        """List an id before its task is made: a crash in between leaves an id too many, never a task unlisted."""
        await self._list(envelope, new_only=True)

    async def place(self, envelope: Envelope) -> None:
        """List a task that was made just now at its own time: under a key, an earlier try may have listed the id."""
        await self._list(envelope, new_only=False)

    async def _list(self, envelope: Envelope, *, new_only: bool) -> None:
        key = owner_tasks_key(owner_id(envelope.owner))
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zadd(key, {str(envelope.task_id): envelope.created_at}, nx=new_only)
        pipeline.expire(key, LIST_TTL)
        try:
            await asyncio.shield(pipeline.execute())
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def stretch(self, owner: str, *, newest: int | None, offset: int, count: int) -> list[tuple[UUID, int]]:
        """Return ids with their `created_at` in ms, newest first, then by falling id.

        Args:
            owner: The owner's digest.
            newest: Only what was created at this millisecond or before; None for all.
            offset: How many of these to pass over.
            count: How many to return at most.
        """
        try:
            found: Any = await self._redis.zrange(
                owner_tasks_key(owner),
                "+inf" if newest is None else newest,
                "-inf",
                desc=True,
                byscore=True,
                offset=offset,
                num=count,
                withscores=True,
            )
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return [(UUID(member.decode()), int(score)) for member, score in found]

    async def move(self, owner: str, places: dict[UUID, int]) -> None:
        """Put listed tasks at their own time, in ms; what is not listed any more stays so."""
        scores = {str(task_id): created_at for task_id, created_at in places.items()}
        try:
            await self._redis.zadd(owner_tasks_key(owner), scores, xx=True)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def remove(self, owner: str, task_ids: list[UUID]) -> None:
        """Take ids off the list whose tasks are gone."""
        try:
            await self._redis.zrem(owner_tasks_key(owner), *map(str, task_ids))
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
