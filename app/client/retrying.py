"""When a request may be sent again, and after how long.

Repeating a GET harms nobody. A submission may be repeated when it carries an Idempotency-Key, or when the failure
itself promises that nothing was accepted; everything else could start the work twice.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import httpx

from app.client.errors import ClientError, ServiceProblem, Unreachable

OnRetry = Callable[[ClientError, float], None]
"""Called before each wait, with the failure and the seconds until the next try."""

BUSY = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
BROKEN = frozenset({httpx.codes.INTERNAL_SERVER_ERROR, httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT})

# A service that restarts is back within a second or two. When it is not, a person wants to hear that soon.
QUICK_TRIES = 3


@dataclass
class Backoff:
    """Delays that double up to a limit, each shortened by a random part, so that many clients do not come in step."""

    first_seconds: float = 0.5
    limit_seconds: float = 30.0
    tries: int = 0

    def next_delay(self) -> float:
        """Return the seconds to wait now: between half and all of the doubled delay."""
        # The exponent is bounded because 2.0**1024 overflows; the limit was reached long before.
        delay = min(self.limit_seconds, self.first_seconds * 2.0 ** min(self.tries, 32))
        self.tries += 1
        return delay * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load; keeps no secret

    def reset(self) -> None:
        """Begin anew, after something went well."""
        self.tries = 0


def may_repeat(error: ClientError, *, is_idempotent: bool) -> bool:
    """Whether the very same request may be sent again after this failure.

    Args:
        error: How the last try ended.
        is_idempotent: Whether a second arrival changes nothing: a GET, or a submission with an Idempotency-Key.
    """
    if isinstance(error, Unreachable):
        return is_idempotent or not error.outcome_is_unknown
    if not isinstance(error, ServiceProblem):
        return False
    if error.status in BUSY:
        # Without Retry-After the service does not say that a later try makes sense.
        return error.retry_after is not None and (is_idempotent or not error.outcome_is_unknown)
    # OutcomeUnknown comes as a 500 and asks for exactly this: the same request with the same key.
    return error.status in BROKEN and is_idempotent


class Retries:
    """The patience of one call: some quick tries when the way is broken, and Retry-After as far as a budget reaches."""

    def __init__(self, patience: timedelta, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the budget now.

        Args:
            patience: How long after its start a call may still begin another try.
            clock: Monotonic seconds.
        """
        self._clock = clock
        self._until = clock() + patience.total_seconds()
        self._backoff = Backoff()

    def delay_after(self, error: ClientError, *, is_idempotent: bool) -> float | None:
        """Return the seconds to wait before the next try, or None when `error` is final.

        Never earlier than Retry-After says. A wait beyond the budget is not begun at all: the caller learns at once.
        """
        if not may_repeat(error, is_idempotent=is_idempotent):
            return None
        delay = self._backoff.next_delay()
        if isinstance(error, ServiceProblem) and error.retry_after is not None:
            delay += error.retry_after
        elif self._backoff.tries > QUICK_TRIES:
            return None
        return delay if self._clock() + delay <= self._until else None
