"""Waiting for facts instead of for time."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

Fact = TypeVar("Fact")

PATIENCE: Final = float(os.environ.get("TEST_PATIENCE", "1"))
"""By how much every wait is longer: continuous integration shares its processors (`.ci/run`)."""


LONGEST_PAUSE: Final = 0.25
WAITED_PER_PAUSE: Final = 10
"""A pause is a tenth of what was waited already: who waits for long asks seldom, and costs the servers little."""


async def wait_until(
    fact: Callable[[], Awaitable[Fact]], *, timeout: float = 10.0, pause: float = 0.02, what: str = "it"
) -> Fact:
    """Return the first true value of `fact`, which is asked again and again, with pauses in between.

    Args:
        fact: What is asked.
        timeout: Seconds, times PATIENCE.
        pause: Seconds of the shortest pause.
        what: What is waited for, in words.

    Raises:
        AssertionError: There was none in time.
    """
    timeout *= PATIENCE
    now = asyncio.get_running_loop().time
    began = now()
    while True:
        value = await fact()
        if value:
            return value
        waited = now() - began
        if waited > timeout:
            raise AssertionError(f"{what} did not happen within {timeout} s; last seen: {value!r}")
        await asyncio.sleep(max(pause, min(LONGEST_PAUSE, waited / WAITED_PER_PAUSE)))
