"""Leadership: one worker-engine keeps house, by a lease in Redis. Two for a moment do no harm: each step is atomic."""

from datetime import timedelta
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.moments import span_milliseconds
from app.store.keys import LEADER_KEY

RENEW: Final = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
)
RESIGN: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Leadership:
    """One candidate."""

    def __init__(self, redis: Redis, candidate: str, *, lease: timedelta) -> None:
        self._redis = redis
        self._candidate = candidate
        self._lease_ms = span_milliseconds(lease)
        self._renew = redis.register_script(RENEW)
        self._resign = redis.register_script(RESIGN)

    async def is_held(self) -> bool:
        """Take the lead if it is free, keep it if it is ours; False while another has it, or Redis is away."""
        try:
            if await self._renew(keys=[LEADER_KEY], args=[self._candidate, self._lease_ms]):
                return True
            return bool(await self._redis.set(LEADER_KEY, self._candidate, nx=True, px=self._lease_ms))
        except (RedisError, OSError):
            return False

    async def resign(self) -> None:
        """Leave the lead to the next one at once."""
        try:
            await self._resign(keys=[LEADER_KEY], args=[self._candidate])
        except (RedisError, OSError):
            return  # it goes by itself
