"""Breaker: a receiver that is dead or slow delays nobody else.

Each receiver (scheme, host and port) has a few slots, and a short queue before them while they move. Who finds no room
comes again when it is their turn at the pace at which the receiver answers, and meanwhile holds nothing: however many
wait, few come at a time. After several attempts in a row without any answer the receiver is left alone for a while;
then one attempt tries whether it is back. An answer, be it a 500, is one: it costs nobody time.

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
STANDSTILL: Final = timedelta(seconds=1)
"""When no attempt has begun or ended for so long, nobody queues: the queue would be as long as there are webhooks."""
SOONEST_SECONDS: Final = 1.0
"""After how long who found no room comes again, at least."""
LATEST_SECONDS: Final = 60.0
"""And at most, however many are before them: so long after a receiver is quick again, all have come."""
SPREAD_SECONDS: Final = 2.0
"""By how much of it at random they come sooner."""
PACE_WEIGHT: Final = 0.2
"""Of the newest time between two ends in their average."""
LONGEST_PAUSE: Final = 10
"""Times the first pause."""
FEW: Final = 100
"""So many receivers are remembered without a look at which need not be."""


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
        self._many = FEW

    def __getitem__(self, origin: str) -> "Receiver":
        """Return a receiver."""
        if origin not in self._receivers:
            if len(self._receivers) >= self._many:
                self._forget_the_healthy()
            self._receivers[origin] = Receiver(self)
        return self._receivers[origin]

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._receivers)

    def _forget_the_healthy(self) -> None:
        """Drop those that nothing need be remembered of; not again before there are twice as many as are left."""
        self._receivers = {origin: one for origin, one in self._receivers.items() if not one.is_idle}
        self._many = max(FEW, 2 * len(self._receivers))


class Receiver:
    """One receiver's slots and breaker."""

    def __init__(self, receivers: Receivers) -> None:
        self._common = receivers
        self._slots = asyncio.Semaphore(receivers.slots)
        self._inside = 0
        self._queueing = 0
        self._moved_at = 0.0
        self._pace = 0.0
        """Seconds from one attempt's end to the next one's, while all slots are taken."""
        self._next_turn = 0.0
        """When the last one of those who were sent away has its turn."""
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
        if self._slots.locked() and (self._has_a_full_queue or self._stands_still):
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
        self._moved_at = self._common.now()
        return None

    def leave(self, *, answered: bool | None) -> None:
        """Go out, and say whether there was an answer, of whatever kind; None: it was not asked."""
        now = self._common.now()
        if self._slots.locked():
            self._pace += PACE_WEIGHT * (now - self._moved_at - self._pace)
        self._moved_at = now
        self._inside -= 1
        self._slots.release()
        if answered is None:
            self._is_trying = False
            return
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

    @property
    def _has_a_full_queue(self) -> bool:
        return self._queueing >= QUEUE_PER_SLOT * self._common.slots

    @property
    def _stands_still(self) -> bool:
        return self._common.now() - self._moved_at > STANDSTILL.total_seconds()

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
        """Give the next turn away."""
        now = self._common.now()
        pace = max(self._pace, (now - self._moved_at) / self._common.slots)
        self._next_turn = min(max(self._next_turn, now + SOONEST_SECONDS) + pace, now + LATEST_SECONDS)
        wait = self._next_turn - now - SPREAD_SECONDS * self._common.random.random()
        return timedelta(seconds=max(wait, SOONEST_SECONDS))
