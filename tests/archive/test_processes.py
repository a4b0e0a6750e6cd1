"""Several processes share an archive, and one that is killed loses nothing that was acknowledged."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from uuid import UUID

from app.archive.archive import Archive, EndedTask
from tests.archive.builders import ended_task

WRITERS = 2  # beside this process; most of what a test takes is their start, a second of imports each


async def started(url: str, count: int) -> Process:
    command = [sys.executable, "-m", "tests.archive.writer", url, str(count)]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE)


async def test_several_processes_write_at_once_and_every_row_is_there(url: str, archive: Archive) -> None:
    writers = [await started(url, 400) for _ in range(WRITERS)]
    begun = [await writer.stdout.readline() for writer in writers if writer.stdout]
    ended = asyncio.gather(*[writer.communicate() for writer in writers])
    own = []
    for _ in range(10):
        tasks = [ended_task(UUID(int=1)), *[ended_task() for _ in range(20)]]
        own += [winner.task.id for winner in await asyncio.gather(*map(archive.insert, tasks)) if winner]
    rest = [line for output, _ in await ended for line in output.split()]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    theirs = {UUID(line.decode().strip()) for line in begun + rest}
    assert len(theirs) == WRITERS * 400 + 1
    ids = theirs.union(own)
    found = await asyncio.gather(*map(archive.find, ids))
    assert all(isinstance(row, EndedTask) and row.task.id in ids for row in found)


async def test_a_process_killed_while_it_writes_loses_no_acknowledged_row(url: str, archive: Archive) -> None:
    writer = await started(url, 0)
    assert writer.stdout is not None
    acknowledged = [await writer.stdout.readline() for _ in range(300)]
    writer.kill()
    acknowledged += (await writer.stdout.read()).splitlines()
    await writer.wait()
    ids = {UUID(line.decode().strip()) for line in acknowledged if len(line.strip()) == 36}
    assert len(ids) > 200
    found = await asyncio.gather(*map(archive.find, ids))
    assert all(isinstance(row, EndedTask) for row in found)
