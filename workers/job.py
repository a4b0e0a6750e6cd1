"""What a handler is given: its task, its last checkpoint, and the ways to report, to commit and to save.

`Job` is for `async def` handlers, which run on the engine's loop; `BlockingJob` is for `def` handlers, each of which
runs in a process of its own. The two offer the same; only `await` differs. Neither holds a connection: what they
report goes to the lease, in the engine, which alone writes to the store.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from app.domain.log_line import LogLevel, LogRecord
from app.settings import Dataset
from workers.outcome import Result, presentable

MAX_CHECKPOINT_BYTES = 65_536
MAX_LOG_LINE = 2000
MAX_LOG_LINES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What an attempt starts from."""

    task_id: UUID
    attempt: int
    token: int
    """The fencing token: rises with every attempt. Give it to outside systems that can compare it."""
    checkpoint: Any
    """What the last `commit` of an earlier attempt stored, or None."""
    datasets: Mapping[int, Dataset]
    """The configured datasets, by id."""
    workspace: os.PathLike[str]
    """An empty directory for this attempt's files; it is removed when the attempt is over."""


class Reporter(Protocol):
    """The engine's side of an `async def` handler's job."""

    def progress(self, percent: int, message: str | None) -> None: ...
    async def commit(self, checkpoint: Any) -> None: ...
    async def save(self, path: Path, content_type: str | None, filename: str | None) -> Result: ...
    def log(self, records: list[LogRecord]) -> None: ...


class BlockingReporter(Protocol):
    """The child's end of the pipe to the engine."""

    def progress(self, percent: int, message: str | None) -> None: ...
    def commit(self, checkpoint: Any) -> None: ...
    def save(self, path: Path, content_type: str | None, filename: str | None) -> Result: ...
    def log(self, records: list[LogRecord]) -> None: ...


class _Attempt:
    """What the two kinds of job have in common: the context, as attributes."""

    def __init__(self, context: JobContext) -> None:
        self.task_id = context.task_id
        self.attempt = context.attempt
        self.token = context.token
        self.checkpoint = context.checkpoint
        self.datasets = context.datasets
        self._workspace = context.workspace

    @property
    def workspace(self) -> Path:
        """An empty directory for this attempt's files; it is removed when the attempt is over."""
        return Path(self._workspace)


class Job(_Attempt):
    """A job as an `async def` handler sees it."""

    def __init__(self, context: JobContext, reporter: Reporter) -> None:
        super().__init__(context)
        self._reporter = reporter

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """Report how far the work is. Cheap: only the newest report is written, a few times a second at most.

        Args:
            fraction: 0 to 1; what lies outside is cut off, and a step back is not shown.
            message: One line for the person who waits, cut at 500 characters; None, or no words, keeps the last one.
        """
        self._reporter.progress(_percent(fraction), _line(message))

    async def log(self, message: str, level: str = "info") -> None:
        """Write a line into the task's log, for the person who follows it. Cheap: lines are written in batches.

        Args:
            message: Lines of 2000 characters at most, 100 of them; the last 1000 lines of a task are kept.
            level: `debug`, `info`, `warning` or `error`.

        Raises:
            ValueError: There is no such level.
        """
        self._reporter.log(log_records(message, level))

    async def commit(self, checkpoint: Any) -> None:
        """Store a checkpoint: once this returns, a later attempt starts from here.

        Args:
            checkpoint: JSON of at most 64 KiB. Larger state goes to a file, and the checkpoint names it.

        Raises:
            LeaseLost: Another worker has the task; end at once.
            ValueError: The checkpoint is not JSON, or too large.
        """
        await self._reporter.commit(checkpoint)

    async def save(self, path: Path, *, content_type: str | None = None, filename: str | None = None) -> Result:
        """Store the result file; return what this returns.

        Args:
            path: A complete file; it is read once, and may be removed afterwards.
            content_type: Guessed from the name when omitted.
            filename: What a download is called; the path's own name when omitted.
        """
        return await self._reporter.save(path, content_type, filename)


class BlockingJob(_Attempt):
    """A job as a `def` handler sees it. The methods are those of `Job`, without `await`."""

    def __init__(self, context: JobContext, reporter: BlockingReporter) -> None:
        super().__init__(context)
        self._reporter = reporter

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Report how far the work is; see `Job.progress`."""
        self._reporter.progress(_percent(fraction), _line(message))

    def log(self, message: str, level: str = "info") -> None:
        """Write a line into the task's log; see `Job.log`."""
        self._reporter.log(log_records(message, level))

    def commit(self, checkpoint: Any) -> None:
        """Store a checkpoint; see `Job.commit`."""
        self._reporter.commit(checkpoint)

    def save(self, path: Path, *, content_type: str | None = None, filename: str | None = None) -> Result:
        """Store the result file; see `Job.save`."""
        return self._reporter.save(path, content_type, filename)


def checkpoint_bytes(checkpoint: Any) -> bytes:
    """Return a checkpoint as it is stored.

    Raises:
        ValueError: It is not JSON, or too large.
    """
    try:
        plain = json.dumps(checkpoint, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a checkpoint is JSON: {error}") from error
    if len(plain) > MAX_CHECKPOINT_BYTES:
        raise ValueError(f"a checkpoint has {MAX_CHECKPOINT_BYTES} bytes at most, and this one {len(plain)}")
    return plain


def log_records(message: str, level: str) -> list[LogRecord]:
    """Return what a handler says as lines of a log, now.

    Raises:
        ValueError: There is no such level.
    """
    now, weight = time.time_ns() // 1_000_000, LogLevel(level)
    lines = message.splitlines()[:MAX_LOG_LINES] or [""]
    return [LogRecord(now, weight, presentable(line, MAX_LOG_LINE)) for line in lines]


def _percent(fraction: float) -> int:
    return int(100 * min(1.0, max(0.0, fraction)))  # in this order, what is no number counts as 0


def _line(message: str | None) -> str | None:
    """Return words on one line; None if there are none, as stores keep it."""
    return (" ".join(presentable(message).split()) or None) if message else None
