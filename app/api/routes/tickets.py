"""`POST /v1/tickets`: a short-lived ticket, for a browser's WebSocket or EventSource."""

from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import Response

from app.api.bodies import model_from, read_json
from app.api.dependencies import AnyReader, Configuration, TicketService
from app.api.documents import TICKET_BODY, TICKET_RESPONSE, problems
from app.api.showing import json_response
from app.domain.errors import ValidationFailed
from app.domain.problem import FieldError
from app.domain.task import rfc3339
from app.service.tickets import TicketKind

router: Final = APIRouter(tags=["workload"])


class TicketOrder(BaseModel):
    """What a ticket is wanted for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: TicketKind = Field(description="`ws` opens one WebSocket, once; `sse` event streams of one task, for 15 min.")
    task_id: UUID | None = Field(default=None, description="The one task that it opens; needed for `sse`.")

    @field_validator("task_id", mode="before")
    @classmethod
    def _no_null(cls, value: object) -> object:
        """A null is no wish for all tasks: the wider ticket is not had by mistake."""
        if value is None:
            raise ValueError("a UUID is expected; leave it out for all of your tasks")
        return value


@router.post(
    "/v1/tickets",
    status_code=201,
    response_class=Response,
    summary="Get a ticket for a WebSocket or an event stream",
    responses={201: TICKET_RESPONSE, **problems(400, 404, 406, 413, 415, 422, 503)},
    openapi_extra=TICKET_BODY,
)
async def issue(request: Request, caller: AnyReader, tickets: TicketService, settings: Configuration) -> Response:
    """Return a ticket to be sent as `?ticket=…`, where a browser cannot send a header. It opens nothing else."""
    body, _ = await read_json(request, limit=settings.api.max_body_bytes)
    order = model_from(body, TicketOrder)
    if order.kind is TicketKind.SSE and order.task_id is None:
        wrong = FieldError(pointer="#/task_id", detail="A ticket for server-sent events is for one task.")
        raise ValidationFailed("The body is not a valid order of a ticket.", errors=[wrong])
    ticket = await tickets.issue(order.kind, task_id=order.task_id, principal=caller)
    shown = {"ticket": ticket.text, "expires_at": rfc3339(ticket.expires_at)}
    return json_response(shown, 201, headers={"Cache-Control": "no-store"})
