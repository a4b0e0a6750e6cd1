"""TicketStore: what tickets stand for, sealed, under the digest of a ticket: whoever reads Redis cannot use one."""

from datetime import timedelta
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.domain.moments import span_milliseconds
from app.store.keys import ticket_key


class TicketStore:
    """The tickets in Redis. Each method raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def put(self, digest: bytes, sealed: bytes, *, ttl: timedelta) -> None:
        """Keep what a ticket stands for."""
        try:
            await self._redis.set(ticket_key(digest), sealed, px=span_milliseconds(ttl))
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def read(self, digest: bytes, *, once: bool) -> bytes | None:
        """Return what a ticket stands for; None if there is none. With `once` it is gone afterwards, for everybody."""
        key = ticket_key(digest)
        try:
            found: Any = await (self._redis.getdel(key) if once else self._redis.get(key))
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return cast("bytes | None", found)
