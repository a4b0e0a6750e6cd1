"""RedisWatch: tells when Redis goes away, and gives up when it stays away.

While it is away nothing is lost: jobs compute on until their lease is surely lost, deliveries are held, nothing is
finished. But a worker that has waited past its patience may itself be the one that is cut off: it ends with status 1,
so that whoever watches it sees it, and a new one begins with new connections.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from redis.asyncio import Redis

from app.domain.errors import LonghaulError
from app.observability.logging import get_log
from app.store.connection import answers

LOOK_SECONDS: Final = 1.0

log = get_log("store")


class RedisUnreachable(LonghaulError):
    """Redis stayed away for longer than `redis_patience_seconds`."""


class RedisWatch:
    """Of one engine."""

    def __init__(self, redis: Redis, *, patience: timedelta, in_hand: Mapping[object, UUID]) -> None:
        """Begin with a Redis that answers.

        Args:
            redis: The engine's client.
            patience: How long Redis may stay away.
            in_hand: The tasks that the engine works on; it changes with them.
        """
        self._redis = redis
        self._patience = patience.total_seconds()
        self._in_hand = in_hand

    async def run(self) -> None:
        """Watch.

        Raises:
            RedisUnreachable: It stayed away for too long.
        """
        loop = asyncio.get_running_loop()
        heard = loop.time()
        lost = False
        while True:
            asked = loop.time()
            if await answers(self._redis):
                heard = asked
                if lost:
                    log.info("Redis is back")
                lost = False
            else:
                if not lost:
                    log.error("Connection to Redis lost.")
                lost = True
                if loop.time() - heard > self._patience:
                    self._give_up()
            await asyncio.sleep(LOOK_SECONDS)

    def _give_up(self) -> None:
        # These lines stand as operators have always known them: without fields, a task by its first eight characters.
        for task_id in sorted({str(task_id) for task_id in self._in_hand.values()}):
            sentence = f"Task {task_id[:8]} failed: Redis unreachable."
            log.critical(sentence)
        raise RedisUnreachable
