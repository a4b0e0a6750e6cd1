"""`POST /v1/workload`: submit a task."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.bodies import read_json, validated
from app.api.dependencies import Catalogue, Configuration, SubmissionService, Submitter, idempotency_key_of
from app.api.documents import ACCEPTED_RESPONSE, SUBMISSION_BODY, problems
from app.api.showing import RETRY_AFTER_SECONDS, document, json_response
from app.domain.task import status_path
from app.observability.tracing import traceparent_of

router: Final = APIRouter(tags=["workload"])


@router.post(
    "/v1/workload",
    status_code=202,
    response_class=Response,
    summary="Submit a task",
    responses={202: ACCEPTED_RESPONSE, **problems(400, 406, 413, 415, 422, 503)},
    openapi_extra=SUBMISSION_BODY,
)
async def submit(
    request: Request, caller: Submitter, submissions: SubmissionService, catalogue: Catalogue, settings: Configuration
) -> Response:
    """Validate an order, and promise it: once this answers 202, the task will run, whatever dies.

    With an `Idempotency-Key`, repeating the request gives the same task, however often and however late.
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
    headers = {
        "Location": status_path(accepted.task.id),
        "Retry-After": str(RETRY_AFTER_SECONDS),
        "Cache-Control": "no-store",  # the answer carries a token
    }
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    shown = document(accepted.task, public_url=settings.public_url)
    return json_response({**shown, "task_token": accepted.task_token}, 202, headers=headers)
