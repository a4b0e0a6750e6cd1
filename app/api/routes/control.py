"""Cancel, retry and delete: change one's tasks."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from app.api.bodies import require_json_accepted
from app.api.dependencies import UUID_TEXT, Configuration, ControlService, Submitter, TaskId
from app.api.documents import problems
from app.api.showing import json_response
from app.domain.task import StatusDocument, document_of, status_path


class _TaskIdConvertor(Convertor[str]):
    """Lets a path match only if a task's id stands in it."""

    regex = UUID_TEXT.pattern

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("task_id", _TaskIdConvertor())

router: Final = APIRouter(tags=["workload"])


@router.post(
    "/v1/workload/{task_id}/cancel",
    status_code=202,
    response_class=Response,
    summary="Cancel a task",
    responses={
        202: {"model": StatusDocument, "description": "CANCELLED, or told to stop."},
        **problems(401, 403, 404, 406, 409, 503),
    },
)
async def cancel(
    request: Request, caller: Submitter, task_id: TaskId, control: ControlService, settings: Configuration
) -> Response:
    """Ask a task to stop, again and again if need be. A waiting one never runs; a running one is given a grace."""
    require_json_accepted(request)
    task = await control.cancel(task_id, principal=caller)
    return json_response(document_of(task, public_url=settings.public_url), 202)


@router.post(
    "/v1/workload/{task_id}/retry",
    status_code=202,
    response_class=Response,
    summary="Run a task again",
    responses={
        202: {"model": StatusDocument, "description": "PENDING again."},
        **problems(401, 403, 404, 406, 409, 410, 500, 503),
    },
)
async def retry(
    request: Request, caller: Submitter, task_id: TaskId, control: ControlService, settings: Configuration
) -> Response:
    """Run a FAILED or CANCELLED task again, from its last checkpoint."""
    require_json_accepted(request)
    task = await control.retry(task_id, principal=caller, request_id=request.state.request_id)
    headers = {"Location": status_path(task.id)}
    return json_response(document_of(task, public_url=settings.public_url), 202, headers=headers)


@router.delete(
    "/v1/workload/{task_id:task_id}",  # another word at this place is another path, and not there
    status_code=204,
    response_class=Response,
    summary="Delete a task",
    responses={204: {"description": "Forgotten."}, **problems(401, 403, 404, 409, 503)},
)
async def delete(caller: Submitter, task_id: TaskId, control: ControlService) -> Response:
    """Forget an ended task, its result and its order. What still carries it starts it no more."""
    await control.forget(task_id, principal=caller)
    return Response(status_code=204)
