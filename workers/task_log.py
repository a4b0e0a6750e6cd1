"""TaskLog: what an attempt's handler writes for whoever follows the task, in batches, a few times a second at most.

It holds nobody up: while Redis is away lines wait, a bounded number of them, and those that are too many are left out,
which the log then says.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from app.cancelling import cancel
from app.domain.errors import Unavailable
from app.domain.log_line import LogLevel, LogRecord
from app.store.task_logs import KEPT_LINES, TaskLogs

WRITE_SECONDS: Final = 0.25
LINES_AT_ONCE: Final = 100
"""Of a batch: with WRITE_SECONDS, 400 lines a second."""
MOST_WAITING: Final = KEPT_LINES // 2
LAST_SECONDS: Final = 2.0
"""How long the end of an attempt waits for its last lines."""


class TaskLog:
    """One attempt's pen."""

    def __init__(self, logs: TaskLogs, task_id: UUID, run: int, token: int) -> None:
        self._logs = logs
        self._task_id = task_id
        self._run = run
        self._token = token
        self._waiting: deque[LogRecord] = deque()
        self._left_out = 0
        self._last_line = 0
        self._is_open = True
        self._writing: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def add(self, records: Iterable[LogRecord]) -> None:
        """Take lines; they are written soon."""
        if not self._is_open:
            return
        for record in records:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self._left_out += 1
            self._waiting.append(record)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="task log")

    async def finish(self) -> None:
        """Write what waits: the attempt is about to end. What cannot be written in time is left out."""
        if self._writing is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._waiting and await self._write_batch():
                    pass
        await self.close()

    async def close(self) -> None:
        """Take no more lines, and write none."""
        self._is_open = False
        if self._writing is not None:
            await cancel(self._writing)

    async def _write(self) -> None:
        while self._waiting:
            await self._write_batch()
            await asyncio.sleep(WRITE_SECONDS)

    async def _write_batch(self) -> bool:
        """Write some of the lines that wait; False if that was not possible now."""
        async with self._one_at_a_time:
            batch, left_out = [*self._waiting][:LINES_AT_ONCE], self._left_out
            if not batch:
                return True
            try:
                written = await self._logs.append(
                    self._task_id, self._run, self._token, [*_notice(left_out), *batch], after=self._last_line
                )
            except Unavailable:
                return False
            match written:
                case "MISSING":  # Redis was emptied: the next beat brings the task back
                    return False
                case "LOST":
                    self._waiting.clear()
                    self._is_open = False
                case int() as last_line:
                    self._last_line = last_line
                    self._left_out -= left_out
                    for record in batch:  # some may have been left out meanwhile
                        if self._waiting and self._waiting[0] is record:
                            self._waiting.popleft()
            return True


def _notice(left_out: int) -> list[LogRecord]:
    if not left_out:
        return []
    now = time.time_ns() // 1_000_000
    return [LogRecord(now, LogLevel.WARNING, f"({left_out} lines were left out)")]
