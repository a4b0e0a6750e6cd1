"""Delays between attempts: of a task exponential, with full jitter; of a webhook by a schedule.

M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015: full jitter spreads retries best.
"""

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Final


def retry_delay(failures: int, *, base: timedelta, cap: timedelta, random: Random) -> timedelta:
    """Return how long to wait after so many failures.

    Args:
        failures: How many attempts have failed, 1 or more.
        base: The upper bound of the first delay; it doubles with each failure.
        cap: The upper bound of all.
        random: Where the jitter comes from.
    """
    bound = min(cap, base * float(2 ** min(failures - 1, 32)))
    return bound * random.random()


JITTER: Final = 0.1


def scheduled_delay(failures: int, *, schedule: Sequence[timedelta], random: Random) -> timedelta | None:
    """Return how long to wait after so many failures by a list of waits, 10 percent more or less; None at its end.

    Args:
        failures: How many attempts have failed, 1 or more.
        schedule: The wait after the first, the second, …
        random: Where the jitter comes from: whoever failed together shall not come back together.
    """
    if failures > len(schedule):
        return None
    return schedule[failures - 1] * (1 + JITTER * (2 * random.random() - 1))
