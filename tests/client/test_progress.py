"""A task as text."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from app.client.progress import (
    BAR_WIDTH,
    ProgressLine,
    bar,
    clock,
    human_size,
    overview,
    plain_line,
    printable,
    progress_line,
)
from app.domain.task import StatusDocument
from tests.client.faulty import TASK, completed, document

NOW = datetime(2026, 11, 24, 20, 20, tzinfo=UTC)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def task(**members: object) -> StatusDocument:
    return StatusDocument.model_validate(document("PROCESSING", 2, 42, message="reading") | members)


@pytest.mark.parametrize(("percent", "full"), [(0, 0), (1, 0), (50, 12), (99, 23), (100, 24)])
def test_a_bar_is_full_only_at_the_end(percent: int, full: int) -> None:
    assert bar(percent, plain=True) == "#" * full + "." * (BAR_WIDTH - full)


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0:00"), (0, "0:00"), (65.9, "1:05"), (3600, "1:00:00")])
def test_a_duration_reads_like_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (2 << 40, "2.0 TiB")],
)
def test_a_size_is_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


def test_the_line_tells_status_progress_time_and_message() -> None:
    shown = task(started_at="2026-11-24T20:18:55Z", attempt=2)
    line = progress_line(shown, width=120, now=NOW, plain=True)
    assert line == f"PROCESSING  {bar(42, plain=True)}   42 %  1:05  attempt 2/5  reading"


def test_the_line_never_exceeds_the_terminal() -> None:
    assert len(progress_line(task(message="x" * 500), width=80, now=NOW)) == 80


def test_a_message_cannot_repaint_the_terminal() -> None:
    nasty = "ok\x1b[2J\r\nnext\x07\u202e"
    assert printable(nasty) == "ok [2J  next"
    assert "\x1b" not in plain_line(task(message=nasty), now=NOW) + progress_line(
        task(message=nasty), width=99, now=NOW
    )


def test_a_failed_task_shows_its_error_instead_of_its_message() -> None:
    failed = task(status="FAILED", error={"type": "/problems/timeout", "title": "Timeout", "detail": "took too long"})
    assert plain_line(failed, now=NOW) == f"2026-11-24T20:20:00.000Z {TASK} FAILED 42 %  timeout: took too long"


def test_a_pipe_gets_a_line_for_each_visible_change() -> None:
    pipe = io.StringIO()
    line = ProgressLine(pipe)
    for shown in (task(), task(seq=3), task(seq=4, progress=43)):
        line.show(shown)
    line.show_bytes(1, 2)
    line.end()
    written = pipe.getvalue()
    assert written.count("\n") == 2
    assert "\r" not in written


def test_a_terminal_gets_one_line_that_is_redrawn_and_ended_once() -> None:
    terminal = Terminal()
    line = ProgressLine(terminal)
    line.show(task())
    line.show(task(progress=43))
    line.show_bytes(1 << 20, 2 << 20)
    line.end()
    line.end()
    written = terminal.getvalue()
    assert written.count("\n") == 1
    assert written.count("\r\x1b[K") == 3
    assert "░" in written
    assert "50 %  1.0 MiB of 2.0 MiB" in written


def test_a_terminal_without_blocks_gets_ascii() -> None:
    terminal = Terminal()
    terminal.encoding = "latin-1"
    ProgressLine(terminal).show(task())
    assert terminal.getvalue().isascii()


def test_the_overview_leaves_out_what_is_not_there() -> None:
    text = overview(StatusDocument.model_validate(completed(content=b"abc")))
    assert "result    made.bin, 3 bytes" in text
    assert "error" not in text
    assert "None" not in text


def test_the_running_time_of_an_ended_task_stands_still() -> None:
    ended = task(started_at="2026-11-24T20:00:00Z", finished_at="2026-11-24T20:01:00Z")
    assert "1:00" in progress_line(ended, width=120, now=NOW + timedelta(days=1))
