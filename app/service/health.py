"""Health: whether this process can do its work, dependency by dependency."""

import asyncio

from redis.asyncio import Redis

from app.archive.archive import Archive
from app.broker.publisher import Publisher
from app.store.connection import answers


class Health:
    """Asks what the process depends on."""

    def __init__(self, *, redis: Redis, publisher: Publisher, archive: Archive) -> None:
        self._redis = redis
        self._archive = archive
        self._publisher = publisher

    async def dependencies(self) -> dict[str, bool]:
        """Return, for each dependency, whether it can be used."""
        redis, rabbitmq, archive = await asyncio.gather(
            answers(self._redis), self._publisher.can_publish(), self._archive.answers()
        )
        return {"redis": redis, "rabbitmq": rabbitmq, "archive": archive}
