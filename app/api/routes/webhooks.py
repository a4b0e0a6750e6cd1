"""Webhooks: their attempts, the secrets that sign them, and a test."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.api.bodies import model_from, read_json, require_json_accepted
from app.api.dependencies import Configuration, Reader, Submitter, TaskId, WebhookService
from app.api.documents import body_of, problems
from app.api.showing import CACHE_HEADERS, model_response
from app.archive.deliveries import Listed
from app.domain.task import Timestamp
from app.domain.webhook import WebhookState
from app.observability.tracing import traceparent_of
from app.service.signing import SigningSecret

SECRET_HEADERS: Final = {"Cache-Control": "no-store"}

router: Final = APIRouter(tags=["webhooks"])


class DeliveryDocument(BaseModel):
    """One attempt at a webhook. Absent values are left out."""

    id: UUID
    webhook_id: str = Field(description="The event's id, as `webhook-id` has it: the same at each attempt.")
    type: str = Field(examples=["workload.completed"])
    attempt: int = Field(ge=1)
    attempted_at: Timestamp
    duration_ms: int = Field(ge=0)
    outcome: str = Field(
        description="`delivered` (2xx), `gone` (410), `refused` (another status), `unanswered`, `forbidden`."
    )
    status_code: int | None = Field(default=None, description="Of the answer, if there was one.")
    location: str | None = Field(default=None, description="Of a redirect; none is followed.")
    error: str | None = Field(default=None, description="Why there was no answer.")
    next_attempt_at: Timestamp | None = Field(default=None, description="When the next attempt was due then.")

    @classmethod
    def of(cls, listed: Listed) -> "DeliveryDocument":
        """Show an attempt."""
        one = listed.attempted
        return cls(
            id=UUID(one.id),
            webhook_id=one.webhook_id,
            type=listed.type,
            attempt=one.attempt,
            attempted_at=one.attempted_at,
            duration_ms=one.duration_ms,
            outcome=one.outcome,
            status_code=one.status_code,
            location=one.location,
            error=one.error,
            next_attempt_at=one.next_attempt_at,
        )


class DeliveryList(BaseModel):
    """The attempts at a task's webhooks, the newest first."""

    items: list[DeliveryDocument]

    @classmethod
    def of(cls, found: Sequence[Listed]) -> "DeliveryList":
        """Show attempts."""
        return cls(items=[DeliveryDocument.of(one) for one in found])


class WebhookAccepted(BaseModel):
    """A webhook that will be sent."""

    webhook_id: str
    state: WebhookState = WebhookState.DUE


class SecretDocument(BaseModel):
    """With what the caller's webhooks are signed."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    created_at: Timestamp
    previous_expires_at: Timestamp | None = Field(
        default=None, description="Until then each webhook is signed with the secret before this one, too."
    )

    @classmethod
    def of(cls, secrets: Sequence[SigningSecret]) -> "SecretDocument":
        """Show the newest of an owner's secrets; the one before is not shown again."""
        previous: datetime | None = secrets[0].expires_at
        return cls(secret=secrets[-1].text, created_at=secrets[-1].created_at, previous_expires_at=previous)


class WebhookTest(BaseModel):
    """An order for a test delivery."""

    model_config = ConfigDict(strict=True, extra="forbid")

    callback_url: str = Field(
        min_length=1,
        max_length=2048,
        json_schema_extra={"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"},
        description="Where it goes: http or https, to a public address.",
    )


@router.get(
    "/v1/workload/{task_id}/deliveries",
    response_class=Response,
    summary="List the attempts at a task's webhooks",
    responses={200: {"model": DeliveryList, "description": "The newest first."}, **problems(404, 406, 503)},
)
async def list_deliveries(request: Request, caller: Reader, task_id: TaskId, webhooks: WebhookService) -> Response:
    """Return each attempt: when, how it was answered, how long it took, and when the next one was due."""
    found = await webhooks.deliveries(task_id, principal=caller)
    require_json_accepted(request)
    return model_response(DeliveryList.of(found), headers=CACHE_HEADERS)


@router.post(
    "/v1/workload/{task_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_class=Response,
    summary="Send a webhook again",
    responses={202: {"model": WebhookAccepted, "description": "It is due now."}, **problems(404, 406, 503)},
)
async def redeliver(
    request: Request, caller: Submitter, task_id: TaskId, delivery_id: str, webhooks: WebhookService
) -> Response:
    """Send the same bytes under the same id at once, whatever became of it; and by its schedule if that fails."""
    require_json_accepted(request)
    return model_response(
        WebhookAccepted(webhook_id=await webhooks.redeliver(task_id, delivery_id, principal=caller)), 202
    )


@router.get(
    "/v1/webhooks/secret",
    response_class=Response,
    summary="Read one's webhook secret",
    responses={200: {"model": SecretDocument, "description": "The secret."}, **problems(406, 503)},
)
async def secret(request: Request, caller: Submitter, webhooks: WebhookService) -> Response:
    """Return the caller's secret; the first one is made with the first request, or the first webhook."""
    require_json_accepted(request)
    return model_response(SecretDocument.of(await webhooks.secrets(principal=caller)), headers=SECRET_HEADERS)


@router.post(
    "/v1/webhooks/secret/rotate",
    response_class=Response,
    summary="Take a new webhook secret",
    responses={200: {"model": SecretDocument, "description": "The new secret."}, **problems(406, 503)},
)
async def rotate(request: Request, caller: Submitter, webhooks: WebhookService) -> Response:
    """Return a new secret. The old one signs beside it for a while; a second rotation in that time ends it at once."""
    require_json_accepted(request)
    return model_response(SecretDocument.of(await webhooks.rotate(principal=caller)), headers=SECRET_HEADERS)


@router.post(
    "/v1/webhooks/test",
    status_code=202,
    response_class=Response,
    summary="Send a test webhook",
    responses={
        202: {"model": WebhookAccepted, "description": "It is due now."},
        **problems(400, 406, 413, 415, 422, 503),
    },
    openapi_extra=body_of(WebhookTest),
)
async def test(request: Request, caller: Submitter, webhooks: WebhookService, settings: Configuration) -> Response:
    """Send a `workload.test` event about a task that is none, signed and tried again like any other."""
    body, _ = await read_json(request, limit=settings.api.max_body_bytes)
    order = model_from(body, WebhookTest)
    webhook_id = await webhooks.test(
        order.callback_url,
        principal=caller,
        request_id=request.state.request_id,
        traceparent=traceparent_of(request.headers.getlist("traceparent")),
    )
    return model_response(WebhookAccepted(webhook_id=webhook_id), 202)
