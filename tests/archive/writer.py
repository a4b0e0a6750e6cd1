"""A process of its own that writes rows, and says which were acknowledged: `python -m tests.archive.writer URL COUNT`.

COUNT 0 is "until killed". It prints the id of a row after `insert` has returned it, and nothing else.
"""

import asyncio
import sys
from uuid import UUID, uuid4

from app.archive.archive import open_archive
from tests.archive.builders import ended_task

AT_ONCE = 20


async def main(url: str, count: int) -> None:
    """Write rows, twenty callers at a time, among them one that every writer contends for."""
    contended = UUID(int=1)
    async with open_archive(url) as archive:

        async def one(task_id: UUID) -> None:
            winner = await archive.insert(ended_task(task_id))
            assert winner is not None
            print(winner.task.id, flush=True)

        written = 0
        while count == 0 or written < count:
            await asyncio.gather(one(contended), *[one(uuid4()) for _ in range(AT_ONCE)])
            written += AT_ONCE


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
