"""`POST /v1/workload`: submit a task."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.bodies import read_json, validated
from app.api.dependencies import (
    Catalogue,
    Configuration,
    SubmissionService,
    Submitter,
    WatchingService,
    idempotency_key_of,
)
from app.api.direct import DirectRoute
from app.api.documents import ACCEPTED_RESPONSE, ENDED_RESPONSE, SUBMISSION_BODY, problems
from app.api.errors import rate_headers
from app.api.preferences import applied, wait_seconds
from app.api.showing import RETRY_AFTER_SECONDS, JsonAnswer, document_with_token
from app.api.waiting import while_connected
from app.domain.errors import LonghaulError
from app.domain.task import Task, status_path
from app.observability.tracing import traceparent_of
from app.security.principal import Principal, Scope
from app.service.watching import Watching

router: Final = APIRouter(tags=["workload"], route_class=DirectRoute)


@router.post(
    "/v1/workload",
    status_code=202,
    response_class=Response,
    summary="Submit a task",
    responses={200: ENDED_RESPONSE, 202: ACCEPTED_RESPONSE, **problems(400, 406, 410, 413, 415, 422, 429, 503)},
    openapi_extra=SUBMISSION_BODY,
)
async def submit(
    request: Request,
    caller: Submitter,
    submissions: SubmissionService,
    watching: WatchingService,
    catalogue: Catalogue,
    settings: Configuration,
) -> Response:
    """Validate an order, and promise it: once this answers 202, the task will run, whatever dies.

    With an `Idempotency-Key`, repeating the request gives the same task, however often and however late. With
    `Prefer: wait=N` the answer is 200 if the task ends within N seconds.
    """
    body, value = await read_json(request, limit=settings.api.max_body_bytes)
    key = idempotency_key_of(request.headers.getlist("idempotency-key"))
    action = validated(body, catalogue)
    accepted = await submissions.submit(
        action,
        principal=caller,
        body=value,
        idempotency_key=key,
        request_id=request.state.request_id,
        traceparent=traceparent_of(request.headers.getlist("traceparent")),
    )
    task = accepted.task
    seconds = wait_seconds(request.headers.getlist("prefer"), at_most=settings.max_submit_wait_seconds)
    if seconds is not None:
        waiting = _end_of(task, watching, principal=caller, seconds=seconds)
        task = await while_connected(request, waiting)
    has_ended = seconds is not None and task.status.is_terminal
    headers = {
        "Location": status_path(task.id),
        "Cache-Control": "no-store",  # the answer carries a token
        **rate_headers(accepted.rate),
        **applied(seconds),
    }
    if not has_ended:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    shown = document_with_token(task, accepted.task_token, public_url=settings.public_url)
    return JsonAnswer(shown, 200 if has_ended else 202, headers=headers)


async def _end_of(task: Task, watching: Watching, *, principal: Principal, seconds: int) -> Task:
    """Return a promised task once it has ended, or as it is after so many seconds. Promised it is anyhow."""
    try:
        return await watching.wait(
            task.id,
            principal=principal,
            seconds=seconds,
            enough=lambda newer: newer.status.is_terminal,
            scope=Scope.SUBMIT,
        )
    except LonghaulError:
        return task
