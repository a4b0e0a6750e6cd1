"""Cancelling that takes effect, and only where it was meant: a task is cancelled until it has ended.

A cancellation can get lost in a library: `asyncio.wait_for` of Python 3.11, through which redis-py writes, drops one
that comes in the moment in which its work is done (https://github.com/python/cpython/issues/86296). Who then waits for
an endless task waits for ever.
"""

import asyncio
from typing import Any, Final

AGAIN_SECONDS: Final = 2.0
"""How long a task may take to end before it is cancelled once more."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and return when all have ended; whatever they raise is nobody's."""
    while living := [task for task in tasks if not task.done()]:
        for task in living:
            task.cancel()
        await asyncio.wait(living, timeout=AGAIN_SECONDS)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain


def is_cancelled() -> bool:
    """Return whether anybody has cancelled the current task.

    If not, a CancelledError in it is a library's: aiormq ends calls so when it gives up a connection whose peer has
    been silent. Nobody looks at a task that ends with one.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
