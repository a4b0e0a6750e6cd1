"""Vitals: what an engine watches of itself: its own memory, and whether its loop is free.

An `async def` handler runs in the engine, and what it leaks stays there. Past `max_rss_mb` the engine takes no new jobs,
lets those that run end, and ends with a status that its supervisor takes for a reason to start another. The same limit
on a job's process is a hard one; see `executors/watch.py`.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from app.domain.errors import ConfigurationError
from app.observability.logging import get_log
from workers.executors.proc import resident_bytes
from workers.executors.watch import MIB

MEMORY_SECONDS: Final = 2.0
"""Between two looks at the memory; one costs 10 µs."""
LOOP_SECONDS: Final = 0.25
BLOCKED_SECONDS: Final = 1.0
"""So long the loop may be held up before it is worth a line. A lease needs a beat each third of `lease_seconds`."""

log = get_log("engine")


async def watch_memory(max_rss_mb: int, full: Callable[[], None]) -> None:
    """Call `full` once, when the engine has grown past its limit; return then.

    Raises:
        ConfigurationError: It is past it already, before any job: it would be restarted again and again.
    """
    if (begin := resident_bytes(os.getpid()) // MIB) > max_rss_mb:
        raise ConfigurationError(f"max_rss_mb: is {max_rss_mb}, but a worker without any job takes {begin}")
    while (size := resident_bytes(os.getpid()) // MIB) <= max_rss_mb:
        await asyncio.sleep(MEMORY_SECONDS)
    log.warning("the engine has grown too large; no new jobs, and a new engine when these have ended", rss_mb=size)
    full()


async def watch_loop(running: Callable[[], list[str]]) -> None:
    """Tell when the loop was held up: by a handler that computes, or calls what blocks, instead of awaiting.

    Args:
        running: Which actions have a handler on the loop at the moment.
    """
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(LOOP_SECONDS)
        late = loop.time() - before - LOOP_SECONDS
        if late > BLOCKED_SECONDS:
            log.warning(
                "the engine's loop was held up; work that blocks belongs into a `def` handler",
                seconds=round(late, 1),
                running=",".join(running()),
            )
