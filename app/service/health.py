"""Health: whether this process can do its work, dependency by dependency."""

from redis.asyncio import Redis

from app.broker.publisher import Publisher
from app.store.connection import answers


class Health:
    """Asks what the process depends on."""

    def __init__(self, *, redis: Redis, publisher: Publisher) -> None:
        self._redis = redis
        self._publisher = publisher

    async def dependencies(self) -> dict[str, bool]:
        """Return, for each dependency, whether it can be used."""
        return {"redis": await answers(self._redis), "rabbitmq": await self._publisher.can_publish()}
