"""Breaker: a receiver that is dead or slow delays nobody else.

Each receiver (scheme, host and port) has a few slots, and a short queue before them. Who finds both full comes again
later, and meanwhile holds nothing. After several attempts in a row without any answer the receiver is left alone for a
while; then one attempt tries whether it is back. An answer, be it a 500, is one: it costs nobody time.

M. Nygard, "Release It!", 2007: Circuit Breaker and Bulkhead.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Final

PATIENCE: Final = timedelta(seconds=5)
"""How long somebody queues for a slot: a healthy receiver's burst is through by then."""
QUEUE_PER_SLOT: Final = 4
BUSY_SECONDS: Final = (1.0, 10.0)
"""After how long who found the queue full comes again."""
LONGEST_PAUSE: Final = 10
"""Times the first pause."""


class Receivers:
    """All receivers that something is being sent to, or that have not answered."""

    def __init__(
        self,
        *,
        slots: int,
        failures: int,
        pause: timedelta,
        random: Random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the limits of each one.

        Args:
            slots: Attempts at once.
            failures: After so many in a row without an answer it is left alone.
            pause: For so long the first time; it doubles.
            random: Spreads those who come again.
            now: A clock, in seconds.
        """
        self.slots = slots
        self.failures = failures
        self.pause = pause.total_seconds()
        self.random = random
        self.now = now
        self._receivers: dict[str, Receiver] = {}

    def __getitem__(self, origin: str) -> "Receiver":
        """Return a receiver."""
        return self._receivers.setdefault(origin, Receiver(self))

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._receivers)

    def forget_the_healthy(self) -> None:
        """Drop those that nothing need be remembered of."""
        self._receivers = {origin: one for origin, one in self._receivers.items() if not one.is_idle}


class Receiver:
    """One receiver's slots and breaker."""

    def __init__(self, receivers: Receivers) -> None:
        self._common = receivers
        self._slots = asyncio.Semaphore(receivers.slots)
        self._inside = 0
        self._queueing = 0
        self._failures = 0
        self._failed_at = 0.0
        self._pauses = 0
        self._alone_until = 0.0
        self._is_trying = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way to it, and its last failure, if it has not answered since, is long ago."""
        if self._inside or self._queueing:
            return False
        return not self._failures or self._common.now() - self._failed_at > 2 * LONGEST_PAUSE * self._common.pause

    @property
    def is_left_alone(self) -> bool:
        """Whether its breaker is open."""
        return self._failures >= self._common.failures

    async def enter(self) -> timedelta | None:
        """Come in for one attempt; `leave` must follow. Otherwise return after how long to come again."""
        if wait := self._left_alone_for():
            return wait
        if self._slots.locked() and self._queueing >= QUEUE_PER_SLOT * self._common.slots:
            return self._busy()
        self._queueing += 1
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await self._slots.acquire()
        except TimeoutError:
            return self._busy()
        finally:
            self._queueing -= 1
        if wait := self._left_alone_for():  # it has failed while we queued
            self._slots.release()
            return wait
        self._is_trying = self.is_left_alone
        self._inside += 1
        return None

    def leave(self, *, answered: bool) -> None:
        """Go out, and say whether there was an answer, of whatever kind."""
        self._inside -= 1
        self._slots.release()
        if answered:
            self._failures = self._pauses = 0
            self._is_trying = False
            return
        self._failures += 1
        self._failed_at = self._common.now()
        if self.is_left_alone and (self._is_trying or self._common.now() >= self._alone_until):
            self._is_trying = False
            self._alone_until = self._common.now() + self._pause()
            self._pauses += 1

    def _pause(self) -> float:
        return self._common.pause * float(min(2 ** min(self._pauses, 10), LONGEST_PAUSE))

    def _left_alone_for(self) -> timedelta | None:
        if not self.is_left_alone:
            return None
        left = self._alone_until - self._common.now()
        if left <= 0 and not self._is_trying:
            return None  # to try whether it is back
        return timedelta(seconds=max(left, 0) + self._common.pause * self._common.random.random())

    def _busy(self) -> timedelta:
        return timedelta(seconds=self._common.random.uniform(*BUSY_SECONDS))
