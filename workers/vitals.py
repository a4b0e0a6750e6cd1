"""Vitals: what an engine watches of itself: its own memory, and whether its loop is free.

An `async def` handler runs in the engine, and what it leaks stays there. Past `max_rss_mb` the engine takes no new
jobs, lets those that run end, and ends with a status that its supervisor takes for a reason to start another. For a
job's own process the same limit is a hard one; see `executors/watch.py`.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
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


def require_room(max_rss_mb: int) -> None:
    """Stop a start that would end in a restart, again and again.

    Raises:
        ConfigurationError: The engine is larger than its limit already, without any job.
    """
    if (size := resident_bytes(os.getpid()) // MIB) > max_rss_mb:
        raise ConfigurationError(f"max_rss_mb: is {max_rss_mb}, but a worker without any job takes {size}")


async def watch_memory(max_rss_mb: int, outgrown: Callable[[], None]) -> None:
    """Call `outgrown` once, when the engine has grown past its limit; return then."""
    while (size := resident_bytes(os.getpid()) // MIB) <= max_rss_mb:  # noqa: ASYNC110  # nobody tells of it
        await asyncio.sleep(MEMORY_SECONDS)
    log.warning("the engine has grown too large; no new jobs, and a new engine when these have ended", rss_mb=size)
    outgrown()


async def watch_loop() -> None:
    """Tell when the loop was held up, and where: by a handler that computes, or calls what blocks, instead of awaiting.

    A thread looks while it lasts, since nothing on the loop can.
    """
    loop, seen, over = asyncio.get_running_loop(), _Seen(time.monotonic()), threading.Event()
    threading.Thread(target=_look_at, args=(loop, threading.get_ident(), seen, over), daemon=True).start()
    try:
        while True:
            await asyncio.sleep(LOOP_SECONDS)
            late = time.monotonic() - seen.free_at - LOOP_SECONDS
            if late > BLOCKED_SECONDS:
                log.warning(
                    "the engine's loop was held up; what blocks belongs into a `def` handler",
                    seconds=round(late, 1),
                    by=seen.task,
                    at=seen.place,
                )
            seen.free_at, seen.task, seen.place = time.monotonic(), "", ""
    finally:
        over.set()


@dataclass(slots=True)
class _Seen:
    free_at: float
    """When the loop was last seen to be free."""
    task: str = ""
    place: str = ""


def _look_at(loop: asyncio.AbstractEventLoop, thread: int, seen: _Seen, over: threading.Event) -> None:
    while not over.wait(LOOP_SECONDS):
        if time.monotonic() - seen.free_at > BLOCKED_SECONDS and not seen.place:
            task, frame = asyncio.current_task(loop), sys._current_frames().get(thread)  # noqa: SLF001
            if task is not None and frame is not None:
                seen.task, seen.place = task.get_name(), f"{frame.f_code.co_filename}:{frame.f_lineno}"
