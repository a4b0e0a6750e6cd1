"""Lines of a turn of the event loop leave in one write, and none waits for a loop that does not turn."""

import asyncio
import io
import threading

from app.observability.logging import OneWriteATurn


class Stream(io.StringIO):
    """Counts what would be system calls."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        """Note what has been let go by now."""
        self.flushed.append(self.getvalue())


def said(out: OneWriteATurn, line: str) -> None:
    """Say a line, as structlog does."""
    out.write(line)
    out.flush()


async def test_lines_of_one_turn_leave_together() -> None:
    stream = Stream()
    out = OneWriteATurn(stream)
    said(out, "a")
    said(out, "b")
    assert stream.flushed == []
    await asyncio.sleep(0)
    assert stream.flushed == ["ab"]
    said(out, "c")
    await asyncio.sleep(0)
    assert stream.flushed == ["ab", "abc"]


async def test_another_thread_does_not_wait_for_a_loop_that_hangs() -> None:
    stream = Stream()
    out = OneWriteATurn(stream)
    said(out, "a")
    other = threading.Thread(target=said, args=(out, "b"))
    other.start()
    other.join()  # and this loop does not turn meanwhile
    assert stream.flushed == ["ab"]


def test_without_a_loop_a_line_leaves_at_once() -> None:
    stream = Stream()
    out = OneWriteATurn(stream)

    async def stopped_in_the_same_turn() -> None:
        said(out, "a")

    said(out, "1")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(stopped_in_the_same_turn())
    loop.close()
    said(out, "b")
    assert stream.flushed[0] == "1"
    assert stream.flushed[-1] == "1ab"
