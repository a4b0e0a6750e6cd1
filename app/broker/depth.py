"""Depth: how many messages wait in each work queue, and how fast they go, as one process sees it.

One poll for all requests: a passive declaration costs the broker a round trip, and a thousand submissions a second
would make a thousand of them. Between two polls the process counts what it has put in itself.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import Final

from app.broker.connection import BrokerConnection
from app.broker.topology import ready_counts
from app.domain.errors import BrokerUnavailable

POLL_SECONDS: Final = 2.0
SOONEST_SECONDS: Final = 0.1
"""After a poll, how long nobody asks again, however full a queue seems."""
STALE_SECONDS: Final = 15.0
"""After which a count says nothing any more: the broker does not answer."""
PATIENCE_SECONDS: Final = 0.5
"""How long a request waits for a poll."""
WINDOW_SECONDS: Final = 30.0
"""Over which the drain rate is measured."""


@dataclass(slots=True)
class QueueDepth:
    """One queue, as it was seen last."""

    ready: int
    """Waiting, and in no worker's hands."""
    added: int
    """Put in by this process since then, or being put in."""

    @property
    def estimate(self) -> int:
        """How many wait now at most, as far as this process knows."""
        return self.ready + self.added


class QueueDepths:
    """The depths of the work queues. `run` must be running; while RabbitMQ is away none is known."""

    def __init__(
        self, connection: BrokerConnection, queues: Iterable[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the connection that is asked.

        Args:
            connection: It may be one that publishes: a broker in alarm stops answering, and depths grow old.
            queues: The work queues.
            clock: Monotonic seconds.
        """
        self._connection = connection
        self._queues = tuple(queues)
        self._clock = clock
        self._known: dict[str, QueueDepth] = {}
        self._under_way: Counter[str] = Counter()
        self._unseen: Counter[str] = Counter()
        """What the poll under way may not have seen: was being put in when it began, or has been begun since."""
        self._gone: dict[str, deque[tuple[float, float, int]]] = {name: deque() for name in self._queues}
        self._seen_at: dict[str, float] = {}
        self._polled_at = float("-inf")
        self._polling: asyncio.Task[None] | None = None

    def of(self, queue: str) -> QueueDepth | None:
        """Return a queue's depth; None while it is not known."""
        depth = self._known.get(queue)
        if depth is None or self._clock() - self._seen_at[queue] > STALE_SECONDS:
            return None
        return depth

    @contextlib.contextmanager
    def adding(self, queue: str) -> Iterator[None]:
        """Count one message that this process puts into a queue inside of the block."""
        depth = self._known.get(queue)
        if depth is not None:
            depth.added += 1
        self._under_way[queue] += 1
        self._unseen[queue] += 1
        try:
            yield
        finally:
            self._under_way[queue] -= 1

    def drain_per_second(self, queue: str) -> float:
        """Return how many messages left a queue per second, lately; 0 if none is known to have.

        What other processes put in meanwhile is not seen, so that this is rather too low than too high. While the
        queue is full nobody puts anything in, and it is exact.
        """
        past = self._gone[queue]
        seconds = sum(span for _, span, _ in past)
        return sum(gone for _, _, gone in past) / seconds if seconds else 0.0

    def saw(self, queue: str, ready: int, *, unseen: int = 0) -> None:
        """Take a new count; `unseen` messages of this process may not be in it."""
        now, before, past = self._clock(), self._known.get(queue), self._gone[queue]
        after = QueueDepth(ready, unseen)
        if before is not None:
            past.append((now, now - self._seen_at[queue], max(0, before.estimate - after.estimate)))
        while past and past[0][0] < now - WINDOW_SECONDS:
            past.popleft()
        self._known[queue] = after
        self._seen_at[queue] = now

    async def run(self) -> None:
        """Poll, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Poll now, unless that was done a moment ago; whoever comes meanwhile waits for the same poll."""
        if self._polling is None:
            if self._clock() - self._polled_at < SOONEST_SECONDS:
                return
            self._polling = asyncio.create_task(self._poll(), name="depths", context=Context())
        await asyncio.wait([self._polling], timeout=PATIENCE_SECONDS)

    async def _poll(self) -> None:
        """Ask once for all queues; what cannot be learnt is not known afterwards."""
        connection = self._connection.current
        counts: dict[str, int] = {}
        self._unseen = self._under_way.copy()
        try:
            if connection is not None and not self._connection.is_blocked:
                # No time limit: a call that is cut off may have RabbitMQ close the connection that publishes.
                counts = await ready_counts(connection, self._queues)
        except BrokerUnavailable:
            counts = {}
        finally:
            self._polling, self._polled_at = None, self._clock()
        for queue in self._queues:
            if queue in counts:
                self.saw(queue, counts[queue], unseen=self._unseen[queue])
            else:
                self._known.pop(queue, None)
