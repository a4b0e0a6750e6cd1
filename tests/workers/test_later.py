"""Work beside an attempt: it begins after a while or when it is asked for, once, and holds nothing when it is over."""

import asyncio
import gc
import weakref

from workers.later import Later


class Lease:
    """Knows of the work that keeps it, as the work knows of it."""

    def __init__(self, after: float) -> None:
        self.begun = 0
        self.keeping = Later(self.keep, after=after, name="lease")

    async def keep(self) -> None:
        """Keep it until that is cancelled."""
        self.begun += 1
        await asyncio.Future()


async def test_it_begins_by_itself_or_when_it_is_asked_for_and_once() -> None:
    by_itself, asked = Lease(after=0), Lease(after=60)
    asked.keeping.begin()
    asked.keeping.begin()
    while not (by_itself.begun and asked.begun):
        await asyncio.sleep(0)
    assert (by_itself.begun, asked.begun) == (1, 1)
    await by_itself.keeping.stop()
    await asked.keeping.stop()


async def test_what_was_stopped_does_not_begin() -> None:
    lease = Lease(after=0)
    await lease.keeping.stop()
    lease.keeping.begin()
    for _ in range(3):  # turns, in the second of which it would have begun
        await asyncio.sleep(0)
    assert lease.begun == 0


async def test_what_is_over_is_freed_without_the_collector() -> None:
    """One cycle for each job would be all that a worker's collector finds."""
    gc.disable()
    try:
        lease = Lease(after=60)
        await lease.keeping.stop()
        left = weakref.ref(lease)
        del lease
        assert left() is None
    finally:
        gc.enable()
