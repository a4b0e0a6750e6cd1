"""A task as text: one line that redraws itself on a terminal, plain lines everywhere else."""

import shutil
from datetime import UTC, datetime
from typing import TextIO

from app.domain.task import StatusDocument, rfc3339

BAR_WIDTH = 24
NARROWEST = 20
KIB = 1024


def printable(text: str) -> str:
    """Return `text` on one line and without control characters: messages come from handlers and may hold anything.

    An escape sequence could otherwise repaint the terminal of whoever looks at a task.
    """
    return "".join(character if character.isprintable() else " " for character in text).strip()


def human_size(size: int) -> str:
    """Write a number of bytes for people: `512 bytes`, `1.5 MiB`."""
    if size < KIB:
        return f"{size} bytes"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= KIB
        if amount < KIB:
            return f"{amount:.1f} {unit}"
    return f"{amount / KIB:.1f} TiB"


def clock(seconds: float) -> str:
    """Write a duration as `m:ss` or `h:mm:ss`; a negative one (clocks differ) as `0:00`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def bar(percent: int, *, plain: bool) -> str:
    """Draw a bar of BAR_WIDTH cells; full only at 100 %.

    Args:
        percent: 0 to 100.
        plain: ASCII only, where the terminal's encoding knows no block characters.
    """
    cells = percent * BAR_WIDTH // 100
    full, empty = ("#", ".") if plain else ("█", "░")
    return full * cells + empty * (BAR_WIDTH - cells)


def progress_line(document: StatusDocument, *, width: int, now: datetime, plain: bool = False) -> str:
    """Draw a task in one line of at most `width` columns.

    Args:
        document: What is shown.
        width: Columns; the end of a longer line is cut off.
        now: For the running time of a task that has not ended.
        plain: ASCII only.
    """
    parts = [f"{document.status:<10}", bar(document.progress, plain=plain), f"{document.progress:3d} %"]
    if document.started_at:
        parts.append(clock(((document.finished_at or now) - document.started_at).total_seconds()))
    if document.attempt > 1:
        parts.append(f"attempt {document.attempt}/{document.max_attempts}")
    parts.append(explanation(document))
    return "  ".join(part for part in parts if part)[: max(width, NARROWEST)]


def plain_line(document: StatusDocument, *, now: datetime) -> str:
    """Write a task's state as one line of a log."""
    words = f"{rfc3339(now)} {document.task_id} {document.status} {document.progress} %"
    return f"{words}  {explanation(document)}".rstrip()


def explanation(document: StatusDocument) -> str:
    """Return what there is to say beside status and progress: the error of a task that failed, else its message."""
    if document.error:
        slug = document.error.type.rpartition("/")[2]
        return printable(f"{slug}: {document.error.detail or document.error.title}")
    return printable(document.message or "")


def overview(document: StatusDocument) -> str:
    """Write all that a person wants to know of a task, a line for each thing."""
    rows: dict[str, object] = {
        "task": document.task_id,
        "action": document.action,
        "status": f"{document.status} {document.progress} %",
        "message": printable(document.message or ""),
        "error": explanation(document) if document.error else "",
        "attempt": f"{document.attempt} of {document.max_attempts}",
        "queue": document.queue.name if document.queue else "",
        "labels": " ".join(document.labels),
        "created": rfc3339(document.created_at),
        "started": rfc3339(document.started_at) if document.started_at else "",
        "finished": rfc3339(document.finished_at) if document.finished_at else "",
    }
    if document.result:
        rows["result"] = f"{printable(document.result.filename)}, {human_size(document.result.size)}"
        rows["sha256"] = document.result.sha256
        rows["expires"] = rfc3339(document.expires_at) if document.expires_at else ""
    return "\n".join(f"{name:<9} {value}" for name, value in rows.items() if value)


class ProgressLine:
    """Shows one task on a stream: redrawn in place on a terminal, a line for each visible change elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        """Look at the stream once: whether it is a terminal, and whether it can show blocks."""
        self._stream = stream
        self._on_terminal = stream.isatty()
        self._plain = not _can_show_blocks(stream)
        self._is_open = False
        self._last: tuple[object, ...] = ()

    def show(self, document: StatusDocument) -> None:
        """Show the task as it is now."""
        visible = (document.status, document.progress, document.attempt, explanation(document))
        if visible == self._last:
            return
        self._last = visible
        now = datetime.now(UTC)
        if self._on_terminal:
            # One column stays free: writing the last one would wrap on some terminals.
            width = shutil.get_terminal_size().columns - 1
            self._redraw(progress_line(document, width=width, now=now, plain=self._plain))
        else:
            self._stream.write(plain_line(document, now=now) + "\n")
            self._stream.flush()

    def show_bytes(self, there: int, size: int) -> None:
        """Show how far a download is; on a terminal only."""
        if self._on_terminal:
            percent = there * 100 // size if size else 100
            sizes = f"{human_size(there)} of {human_size(size)}"
            self._redraw(f"downloading {bar(percent, plain=self._plain)}  {percent:3d} %  {sizes}")

    def end(self) -> None:
        """Leave the line as it is and go on below it. May be called twice."""
        if self._is_open:
            self._stream.write("\n")
            self._stream.flush()
            self._is_open = False

    def _redraw(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}")  # to the line's start, erase it, write anew
        self._stream.flush()
        self._is_open = True


def _can_show_blocks(stream: TextIO) -> bool:
    try:
        bar(50, plain=False).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
