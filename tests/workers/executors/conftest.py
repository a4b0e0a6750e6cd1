"""An executor with a fork server of its own, and an engine's side that writes down what a job reports."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from app.domain.errors import LeaseLost
from app.domain.log_line import LogRecord
from app.domain.task import ResultFile
from app.settings import Dataset
from tests.support.waiting import wait_until
from tests.workers.executors.deeds import Deed
from workers.executors.process import ProcessExecutor
from workers.executors.watch import Limits
from workers.job import JobContext
from workers.outcome import Result

DEEDS = "tests.workers.executors.deeds"
ROOT = Path(__file__).parents[3]
WIDE = Limits(max_rss_mb=1024, stall_seconds=60)

_numbers = itertools.count(1)


@dataclass
class Recorder:
    """The engine's side of a job."""

    lose_at_commit: int | None = None
    reports: list[tuple[int, str | None]] = field(default_factory=list)
    log_lines: list[LogRecord] = field(default_factory=list)
    checkpoints: list[Any] = field(default_factory=list)
    saved: dict[str, bytes] = field(default_factory=dict)
    slow_commit: asyncio.Event | None = None
    save_error: Exception | None = None

    def progress(self, percent: int, message: str | None) -> None:
        self.reports.append((percent, message))

    def log(self, records: list[LogRecord]) -> None:
        self.log_lines += records

    async def commit(self, checkpoint: Any) -> None:
        if self.slow_commit is not None:
            await self.slow_commit.wait()
        if self.lose_at_commit == len(self.checkpoints) + 1:
            raise LeaseLost
        self.checkpoints.append(checkpoint)

    async def save(self, path: Path, content_type: str | None, filename: str | None) -> Result:
        if self.save_error is not None:
            raise self.save_error
        content = path.read_bytes()
        name = filename or path.name
        self.saved[name] = content
        return Result(ResultFile("key", len(content), content_type or "text/plain", name, sha256="0"))

    async def committed(self) -> Any:
        """Wait for a checkpoint, and return the newest."""
        await wait_until(self._is_committed, what="a commit")
        return self.checkpoints[-1]

    async def _is_committed(self) -> bool:
        return bool(self.checkpoints)


class Bench:
    """An executor, and a way to have a deed done on it."""

    def __init__(self, executor: ProcessExecutor, workspace: Path) -> None:
        self.executor = executor
        self._workspace = workspace

    async def do(self, what: str, *, text: str = "", number: int = 0, recorder: Recorder | None = None) -> Result:
        """Run `Deeds.<what>`."""
        return await self.executor.run(
            self.context(), Deed(what=what, text=text, number=number), recorder or Recorder(), asyncio.Event()
        )

    def start(self, what: str, recorder: Recorder, **fields: Any) -> asyncio.Task[Result]:
        """Begin it."""
        return asyncio.create_task(self.do(what, recorder=recorder, **fields))

    def context(self) -> JobContext:
        """Return a context that no other job has."""
        number = next(_numbers)
        return JobContext(
            task_id=UUID(int=number),
            attempt=2,
            token=number,
            checkpoint={"step": 3},
            datasets={7: Dataset(title="Seven", path="/seven.csv", time_column="time", series_column="name")},
            workspace=self._workspace,
        )

    @property
    def server(self) -> psutil.Process:
        """The fork server."""
        assert self.executor._server is not None
        return psutil.Process(self.executor._server.pid)


@pytest.fixture(scope="session", autouse=True)
def importable() -> Iterator[None]:
    """Let fork servers find the deeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        yield


@asynccontextmanager
async def bench_with(handlers: str, *, workspace: Path, limits: Limits = WIDE) -> AsyncIterator[Bench]:
    """A bench with a fork server of its own, which imports these handlers."""
    executor = ProcessExecutor([handlers], limits)
    try:
        yield Bench(executor, workspace)
    finally:
        await executor.aclose()


@pytest.fixture(scope="session")
async def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """For tests that leave the fork server in peace."""
    async with bench_with(DEEDS, workspace=tmp_path_factory.mktemp("workspace")) as bench:
        yield bench


@pytest.fixture
async def own_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """For tests that break the fork server, or count what it has."""
    async with bench_with(DEEDS, workspace=tmp_path) as bench:
        yield bench


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """The shared one."""
    return shared_bench


def marked(mark: str) -> list[int]:
    """Return the living processes whose command line or title has this mark."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(mark in word for word in words):
            found.append(process.info["pid"])
    return found


async def wait_until_gone(mark: str, *, within: float = 10.0) -> None:
    """Wait until no process has this mark any more."""

    async def gone() -> bool:
        return not marked(mark)

    await wait_until(gone, timeout=within, what=f"the end of everything marked {mark}")


async def wait_until_there(mark: str, count: int) -> None:
    """Wait until so many processes have this mark."""

    async def there() -> bool:
        return len(marked(mark)) >= count

    await wait_until(there, timeout=60, what=f"{count} processes marked {mark}")
