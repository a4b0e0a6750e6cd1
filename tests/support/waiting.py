"""Waiting for facts instead of for time."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

Fact = TypeVar("Fact")

PATIENCE: Final = float(os.environ.get("TEST_PATIENCE", "1"))
"""By how much every wait is longer: continuous integration shares its processors (`.ci/run`)."""


async def wait_until(fact: Callable[[], Awaitable[Fact]], *, timeout: float = 10.0, what: str = "it") -> Fact:
    """Return the first true value of `fact`, which is asked again and again.

    Raises:
        AssertionError: There was none in `timeout` seconds, times PATIENCE.
    """
    timeout *= PATIENCE
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        value = await fact()
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout} s; last seen: {value!r}")
        await asyncio.sleep(0.02)
