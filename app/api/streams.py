"""What live updates look like on the wire, over WebSocket and as server-sent events; and who may open them."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import HTTPConnection

from app.api.dependencies import Services, bearer_principal
from app.api.showing import Documents
from app.domain.errors import Unauthorized
from app.domain.log_line import LogLine
from app.domain.task import Task, rfc3339
from app.security.principal import Principal
from app.service.tickets import TicketKind
from app.service.watching import Seen

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


async def reader(connection: HTTPConnection, kind: TicketKind, authorization: list[str]) -> Principal:
    """Find out who opens a stream: by a bearer token, or, where there is none, by a ticket in the query string.

    Args:
        connection: The request or the handshake.
        kind: Which tickets open it.
        authorization: The values of Authorization, or what stands for them.

    Raises:
        Unauthorized: Neither is valid, or a ticket stands there twice.
        StoreUnavailable: Redis does not answer.
    """
    services: Services = connection.app.state.services
    tickets = connection.query_params.getlist("ticket")
    if authorization or not tickets:
        return await bearer_principal(services.verifier, authorization)
    if len(tickets) > 1:
        raise Unauthorized("One ticket is expected.", token_was_sent=True)
    return await services.tickets.principal(tickets[0], kind=kind)
