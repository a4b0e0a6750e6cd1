"""`GET /v1/workload/{task_id}/events` and `…/logs`: follow a task by server-sent events, and read its log."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.bodies import require_json_accepted, require_stream_accepted
from app.api.dependencies import (
    DocumentTexts,
    LogService,
    NeedsScope,
    Reader,
    StatusService,
    TaskId,
    WatchingService,
    require_small_headers,
    stream_principal,
)
from app.api.documents import EVENT_RESPONSES, EVENTS_PARAMETERS, LOG_PARAMETERS, LOG_RESPONSE, problems
from app.api.errors import MethodNotAllowed
from app.api.showing import CACHE_HEADERS, json_response
from app.api.streams import EventStream, last_event_id, line_fields
from app.domain.errors import Restarting, Unauthorized, ValidationFailed
from app.domain.problem import FieldError
from app.security.principal import Principal, authorize
from app.security.principal import Scope as Right
from app.service.logs import MOST_LINES
from app.service.tickets import TicketKind
from app.service.watching import Event

EVENT_STREAM: Final = "text/event-stream"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Vary": "Authorization",
    "X-Accel-Buffering": "no",  # nginx passes each event on as it comes
}
NUMBER: Final = re.compile(r"[0-9]{1,15}")

router: Final = APIRouter(tags=["workload"])


async def _get_only(request: Request) -> None:
    """Refuse HEAD: there is nothing to be said of a stream without sending it."""
    if request.state.is_head:
        raise MethodNotAllowed(["GET"])


class _StreamReader(NeedsScope):
    """Finds out who opens a stream: by a token, or by a ticket."""

    async def __call__(self, request: Request) -> Principal:
        principal = await stream_principal(request, TicketKind.SSE, request.headers.getlist("authorization"))
        authorize(principal, self.scope, task_id=principal.only_task)
        require_small_headers(request)
        return principal


@router.get(
    "/v1/workload/{task_id}/events",
    response_class=Response,
    summary="Follow a task by server-sent events",
    responses={**EVENT_RESPONSES, **problems(404, 406, 503)},
    openapi_extra=EVENTS_PARAMETERS,
)
async def events(
    request: Request,
    _: Annotated[None, Depends(_get_only)],
    caller: Annotated[Principal, Depends(_StreamReader(Right.READ))],
    task_id: TaskId,
    statuses: StatusService,
    watching: WatchingService,
    documents: DocumentTexts,
) -> Response:
    """Send the task as it is, its log, and each newer state and line, until it has ended.

    An `EventSource` that connects again goes on from where it was. Once it has seen the end it is answered 204, which
    tells it to stop.
    """
    seen = last_event_id(request.headers.getlist("last-event-id"))
    task = await statuses.read(task_id, principal=caller)
    require_stream_accepted(request)
    if seen is not None and task.status.is_terminal and seen.seq >= task.seq:
        return Response(status_code=204, headers=HEADERS)
    opened = AsyncExitStack()
    coming = await opened.enter_async_context(watching.task(task_id, principal=caller, seen=seen))
    return _Stream(opened, coming, EventStream(documents, seen))


class _Stream(StreamingResponse):
    """An open stream; what it holds is given back however it ends."""

    def __init__(self, opened: AsyncExitStack, events: AsyncIterator[Event], stream: EventStream) -> None:
        self._opened = opened
        self._texts = _texts(events, stream)
        super().__init__(self._texts, headers=HEADERS, media_type=EVENT_STREAM)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened, aclosing(self._texts):
            await super().__call__(scope, receive, send)


async def _texts(events: AsyncIterator[Event], stream: EventStream) -> AsyncGenerator[str]:
    yield stream.beginning
    try:
        async for event in events:
            yield stream.text(event)
    except (Restarting, Unauthorized):
        return  # it connects again, and is told what is the matter


@router.get(
    "/v1/workload/{task_id}/logs",
    response_class=Response,
    summary="Read a task's log",
    responses={200: LOG_RESPONSE, **problems(404, 406, 422, 503)},
    openapi_extra=LOG_PARAMETERS,
)
async def log(request: Request, caller: Reader, task_id: TaskId, logs: LogService) -> Response:
    """Return the lines that the task's handler has written: the last 1000, as long as Redis shows the task."""
    after = _number(request, "after", lowest=0, default=0)
    limit = _number(request, "limit", lowest=1, default=MOST_LINES)
    lines = await logs.read(task_id, principal=caller, after=after or 0, limit=min(limit or MOST_LINES, MOST_LINES))
    require_json_accepted(request)
    wrong = _wrong_parameters(request, after=after, limit=limit)
    if wrong:
        raise ValidationFailed("The query is not valid.", errors=wrong)
    return json_response({"items": [line_fields(line) for line in lines]}, headers=dict(CACHE_HEADERS))


def _number(request: Request, name: str, *, lowest: int, default: int) -> int | None:
    """Read a parameter; None if it is wrong."""
    texts = request.query_params.getlist(name)
    if not texts:
        return default
    if len(texts) > 1 or not NUMBER.fullmatch(texts[0]) or int(texts[0]) < lowest:
        return None
    return int(texts[0])


def _wrong_parameters(request: Request, *, after: int | None, limit: int | None) -> list[FieldError]:
    wrong = [
        FieldError(parameter=name, detail="Unknown parameter.")
        for name in dict.fromkeys(request.query_params)
        if name not in ("after", "limit")
    ]
    if after is None:
        wrong.append(FieldError(parameter="after", detail="The number of a line is expected, once."))
    if limit is None or limit > MOST_LINES:
        wrong.append(FieldError(parameter="limit", detail=f"A whole number from 1 to {MOST_LINES} is expected, once."))
    return wrong
