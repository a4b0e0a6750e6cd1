"""Delays between the attempts of a task: exponential, with full jitter.

M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015: full jitter spreads retries best.
"""

from datetime import timedelta
from random import Random


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
