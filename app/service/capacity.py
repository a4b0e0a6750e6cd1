"""Capacity: back-pressure. A queue over its depth takes nothing more, and says when it is worth asking again."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from math import ceil
from typing import Final

from app.broker.depth import QueueDepths
from app.domain.errors import QueueFull

UNKNOWN_RETRY_SECONDS: Final = 30
"""Of a full queue from which nothing goes."""
LONGEST_RETRY_SECONDS: Final = 300
ROOM: Final = 0.1
"""What part of the depth limit should be free when a refused caller comes again: else all would come for one place."""


class Capacity:
    """Decides whether a queue takes another task. The queue's own limit in the broker stands at twice this one."""

    def __init__(self, depths: QueueDepths, limits: Mapping[str, int]) -> None:
        self._depths = depths
        self._limits = limits

    async def place(self, queue: str) -> AbstractContextManager[None]:
        """Return room for one more message in a queue, which is to be put in inside of the `with` block.

        Before a queue that seems full refuses, it is looked at once more, by one request for all. What is not known
        (RabbitMQ is away) refuses nothing.

        Raises:
            QueueFull: It is over its depth.
        """
        if self._is_full(queue):
            await self._depths.look()
            if self._is_full(queue):
                raise self.full(queue)
        return self._depths.adding(queue)

    def _is_full(self, queue: str) -> bool:
        depth = self._depths.of(queue)
        return depth is not None and depth.estimate >= self._limits[queue]

    def full(self, queue: str) -> QueueFull:
        """Return the refusal, with a Retry-After from the measured drain rate."""
        return QueueFull(retry_after=self._retry_seconds(queue))

    def _retry_seconds(self, queue: str) -> int:
        depth, drain = self._depths.of(queue), self._depths.drain_per_second(queue)
        if depth is None or not drain:
            return UNKNOWN_RETRY_SECONDS
        limit = self._limits[queue]
        wanted = max(0, limit - max(1, ceil(limit * ROOM)))
        seconds = ceil((depth.estimate - wanted) / drain)
        return min(LONGEST_RETRY_SECONDS, max(1, seconds))
