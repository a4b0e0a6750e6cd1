"""What live updates look like on the wire, over WebSocket and as server-sent events."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from websockets.frames import Frame, Opcode

from app.api.showing import Documents
from app.domain.log_line import LogLine
from app.domain.task import Task, rfc3339
from app.service.watching import Event, Seen

FRAMES: Final = "longhaul.frames"
"""The ASGI extension by which our server (`app/api/server.py`) says who writes a socket's frames: `{"writer": …}`."""
LAST_EVENT_ID: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


def line_fields(line: LogLine) -> dict[str, Any]:
    """Return a log line as JSON values."""
    return {
        "task_id": str(line.task_id),
        "line": line.line,
        "time": rfc3339(line.time),
        "level": line.level,
        "message": line.message,
    }


def compact(value: Any) -> str:
    """Write JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def socket_message(event: Task | LogLine | object, documents: Documents) -> str:
    """Return an event as a WebSocket's message; what is neither a state nor a line is a heartbeat."""
    match event:
        case Task() as task:
            return f'{{"type":"status","task":{documents.text(task)}}}'
        case LogLine() as line:
            return compact({"type": "log", **line_fields(line)})
        case _:
            return compact({"type": "ping", "time": rfc3339(datetime.now(UTC))})


class FrameWriter(Protocol):
    """An open WebSocket, as the server holds it."""

    def is_free(self) -> bool:
        """Whether a frame would leave at once."""

    def write(self, frame: bytes) -> None:
        """Write a whole frame. What the peer does not take at once waits in memory: ask `is_free` before."""


class Frames:
    """WebSocket messages as they go over the wire, each written once for all sockets that are sent the same one."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._event: Event | None = None
        self._frame = b""

    def of(self, event: Event) -> bytes:
        """Return an event's frame. One is kept: what is published goes to one reader after the other."""
        if event is not self._event:
            text = socket_message(event, self._documents)
            self._event, self._frame = event, Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
        return self._frame


class SocketWire:
    """A WebSocket that takes events past ASGI; see `watching.Wire`."""

    def __init__(self, writer: FrameWriter, frames: Frames) -> None:
        self.is_free = writer.is_free
        self._write = writer.write
        self._frames = frames

    def take(self, event: Event) -> None:
        """See `watching.Wire`."""
        self._write(self._frames.of(event))


class EventStream:
    """Events in the form of `text/event-stream` (HTML, section 9.2); the ids say from where to go on."""

    beginning: Final = "retry: 3000\n\n"

    def __init__(self, documents: Documents, seen: Seen | None) -> None:
        self._documents = documents
        self._seq, self._line = (seen.seq, seen.line) if seen else (0, 0)

    def text(self, event: Task | LogLine | object) -> str:
        """Return an event."""
        match event:
            case Task() as task:
                self._seq = task.seq
                name, data = "status", self._documents.text(task)
            case LogLine() as line:
                self._line = line.line
                name, data = "log", compact(line_fields(line))
            case _:
                return ": ping\n\n"
        return f"id: {self._seq}.{self._line}\nevent: {name}\ndata: {data}\n\n"


def last_event_id(values: list[str]) -> Seen | None:
    """Read `Last-Event-ID`; None if there is none of ours."""
    match = LAST_EVENT_ID.fullmatch(values[0].strip()) if len(values) == 1 else None
    return Seen(seq=int(match[1]), line=int(match[2])) if match else None
