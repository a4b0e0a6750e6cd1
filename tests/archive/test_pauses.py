"""Paused queues, in SQL."""

from datetime import UTC, datetime

from app.archive.archive import Archive
from app.archive.pauses import Pause

FIRST = Pause(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "issuer somebody", "a reason")
SECOND = Pause(datetime(2027, 1, 1, tzinfo=UTC), "issuer another", "another one")


async def test_the_first_pause_stays_until_the_queue_is_resumed(archive: Archive) -> None:
    await archive.pauses.pause("one", FIRST)
    await archive.pauses.pause("one", SECOND)
    await archive.pauses.pause("two", SECOND)
    assert await archive.pauses.all() == {"one": FIRST, "two": SECOND}
    for _ in range(2):
        await archive.pauses.resume("one")
        assert await archive.pauses.all() == {"two": SECOND}
