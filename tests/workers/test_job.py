"""What a handler may say: fractions of any kind, messages of any length, checkpoints that are JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.log_line import LogRecord
from workers.job import MAX_CHECKPOINT_BYTES, BlockingJob, JobContext, checkpoint_bytes
from workers.outcome import AttemptFailed, Result


@dataclass
class Recorder:
    reports: list[tuple[int, str | None]] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)

    def progress(self, percent: int, message: str | None) -> None:
        self.reports.append((percent, message))

    def log(self, records: list[LogRecord]) -> None:
        self.records += records

    def commit(self, checkpoint: Any) -> None: ...

    def save(self, path: Path, content_type: str | None, filename: str | None) -> Result:
        return Result()


def reported(fraction: float, message: str | None = None) -> tuple[int, str | None]:
    recorder = Recorder()
    context = JobContext(task_id=UUID(int=1), attempt=1, token=1, checkpoint=None, datasets={}, workspace=Path())
    BlockingJob(context, recorder).progress(fraction, message)
    return recorder.reports[0]


@given(st.floats())
def test_any_fraction_is_a_percentage(fraction: float) -> None:
    """Also one that is infinite, or no number."""
    percent, _ = reported(fraction)
    assert 0 <= percent <= 100


@pytest.mark.parametrize(
    ("fraction", "percent"), [(0, 0), (0.5, 50), (1, 100), (-1, 0), (7, 100), (float("nan"), 0), (float("inf"), 100)]
)
def test_what_lies_outside_is_cut_off(fraction: float, percent: int) -> None:
    assert reported(fraction) == (percent, None)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=2000))
def test_any_message_is_one_line_that_can_be_stored(message: str) -> None:
    _, line = reported(0, message)
    if line is None:  # it keeps the last one, as stores understand no words
        assert not message.strip()
        return
    assert 0 < len(line) <= 500
    assert "\n" not in line
    line.encode()


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=2000))
def test_any_failure_can_be_stored(words: str) -> None:
    detail = AttemptFailed(words).detail
    assert len(detail) <= 500
    detail.encode()


def test_a_checkpoint_has_64_kib_at_most() -> None:
    assert len(checkpoint_bytes("x" * (MAX_CHECKPOINT_BYTES - 2))) == MAX_CHECKPOINT_BYTES
    with pytest.raises(ValueError, match="65536 bytes at most, and this one 65537"):
        checkpoint_bytes("x" * (MAX_CHECKPOINT_BYTES - 1))


@pytest.mark.parametrize("checkpoint", [{1, 2}, float("nan"), object(), {(1, 2): 3}, b"bytes"])
def test_a_checkpoint_that_is_no_json_is_refused(checkpoint: Any) -> None:
    with pytest.raises(ValueError, match="a checkpoint is JSON"):
        checkpoint_bytes(checkpoint)
