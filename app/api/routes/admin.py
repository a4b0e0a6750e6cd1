"""`/v1/admin/…`: what operators see of everybody's tasks. Scope `workload:admin`; never a payload or a result."""

import json
import re
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.bodies import read_json, require_json_accepted
from app.api.dependencies import AdministrationService, Administrator, TaskId
from app.api.documents import ADMIN_LIST_PARAMETERS, REASON_BODY, problems
from app.api.queries import DEFAULT_LIMIT, Query, page_limit
from app.api.routes.webhooks import DeliveryList, WebhookAccepted
from app.api.showing import json_response, model_response
from app.broker.dead_letters import DeadLetter
from app.domain.errors import ValidationFailed
from app.domain.lifecycle import TaskStatus
from app.domain.moments import moment
from app.domain.problem import FieldError
from app.domain.task import rfc3339
from app.service.administration import QueueFigures, Seen, Wanted
from app.store.workers import WorkerReport

MAX_REASON: Final = 500
REASON: Final = re.compile(rf"[^\0]{{1,{MAX_REASON}}}")  # PostgreSQL keeps no text with a NUL
MAX_REASON_BODY: Final = 8192
TASK_PARAMETERS: Final = frozenset({"status", "action", "label", "limit", "cursor"})
NO_STORE: Final = {"Cache-Control": "no-store"}

router: Final = APIRouter(prefix="/v1/admin", tags=["administration"])


@router.get(
    "/queues",
    response_class=Response,
    summary="How the queues are doing",
    responses={200: {"description": "Each queue's load, rates and consumers."}, **problems(406, 503)},
)
async def queues(request: Request, caller: Administrator, administration: AdministrationService) -> Response:
    """Return each queue's `load` (due PENDING and PROCESSING), `ready`, `running`, `parked`, consumers and rates."""
    require_json_accepted(request)
    return _items([queue_document(figures) for figures in await administration.queues(principal=caller)])


@router.get(
    "/queues/{queue}",
    response_class=Response,
    summary="How a queue is doing",
    responses={200: {"description": "The queue's load, rates and consumers."}, **problems(404, 406, 503)},
)
async def queue(request: Request, caller: Administrator, queue: str, administration: AdministrationService) -> Response:
    """Return one queue's figures."""
    figures = await administration.queue(queue, principal=caller)
    require_json_accepted(request)
    return json_response(queue_document(figures), headers=NO_STORE)


@router.post(
    "/queues/{queue}/pause",
    response_class=Response,
    summary="Let nobody work on a queue",
    responses={
        200: {"description": "Within three seconds no worker takes anything from it; what runs goes on to its end."},
        **problems(400, 404, 406, 413, 415, 422, 503),
    },
    openapi_extra=REASON_BODY,
)
async def pause(request: Request, caller: Administrator, queue: str, administration: AdministrationService) -> Response:
    """Pause a queue until it is resumed, whatever is restarted or emptied. Submissions are still accepted."""
    administration.require_queue(queue, principal=caller)
    reason = await _reason(request)
    await administration.pause(queue, principal=caller, reason=reason)
    return json_response(queue_document(await administration.queue(queue, principal=caller)), headers=NO_STORE)


@router.post(
    "/queues/{queue}/resume",
    response_class=Response,
    summary="Let workers work on a queue again",
    responses={
        200: {"description": "Within three seconds workers take from it again."},
        **problems(400, 404, 406, 413, 415, 422, 503),
    },
    openapi_extra=REASON_BODY,
)
async def resume(
    request: Request, caller: Administrator, queue: str, administration: AdministrationService
) -> Response:
    """Resume a paused queue; one that is not paused stays as it is."""
    administration.require_queue(queue, principal=caller)
    reason = await _reason(request)
    await administration.resume(queue, principal=caller, reason=reason)
    return json_response(queue_document(await administration.queue(queue, principal=caller)), headers=NO_STORE)


@router.get(
    "/workers",
    response_class=Response,
    summary="The living workers",
    responses={200: {"description": "What each worker-engine has said last."}, **problems(406, 503)},
)
async def workers(request: Request, caller: Administrator, administration: AdministrationService) -> Response:
    """Return each worker-engine that has sent a heartbeat within ten seconds, with its memory and current tasks."""
    require_json_accepted(request)
    return _items([worker_document(worker) for worker in await administration.workers(principal=caller)])


@router.get(
    "/tasks",
    response_class=Response,
    summary="Everybody's tasks",
    responses={200: {"description": "A page of tasks, of all owners."}, **problems(406, 422, 503)},
    openapi_extra=ADMIN_LIST_PARAMETERS,
)
async def tasks(request: Request, caller: Administrator, administration: AdministrationService) -> Response:
    """Return everybody's tasks: the living ones first, newest first; then the ended ones, the latest first."""
    require_json_accepted(request)
    query = Query(request, TASK_PARAMETERS)
    wanted = Wanted(
        statuses=query.many("status", TaskStatus),
        actions=query.many("action", str),
        labels=query.many("label", str),
    )
    limit = query.one("limit", page_limit, DEFAULT_LIMIT)
    cursor = query.one("cursor", str, None)
    query.require_nothing_wrong()
    page = await administration.page(wanted, principal=caller, limit=limit, cursor=cursor)
    return _items([task_document(seen) for seen in page.tasks], next_cursor=page.next_cursor)


@router.get(
    "/tasks/stalled",
    response_class=Response,
    summary="Tasks that do not get on",
    responses={
        200: {"description": "Living tasks whose worker is silent, or whose message was lost."},
        **problems(406, 503),
    },
)
async def stalled(request: Request, caller: Administrator, administration: AdministrationService) -> Response:
    """Return living tasks that do not get on, since when and why: `lease-expired` or `message-lost`."""
    require_json_accepted(request)
    return _items([task_document(seen) for seen in await administration.stalled(principal=caller)])


@router.get(
    "/tasks/{task_id}",
    response_class=Response,
    summary="Anybody's task",
    responses={200: {"description": "The task, and who works at it."}, **problems(404, 406, 503)},
)
async def task(
    request: Request, caller: Administrator, task_id: TaskId, administration: AdministrationService
) -> Response:
    """Return a task of any owner, and which worker holds it until when."""
    seen = await administration.task(task_id, principal=caller)
    require_json_accepted(request)
    return json_response(task_document(seen), headers=NO_STORE)


@router.post(
    "/tasks/{task_id}/requeue",
    status_code=202,
    response_class=Response,
    summary="Take a running task from its worker",
    responses={
        202: {"description": "It waits again, uncharged, and goes on from its last checkpoint."},
        **problems(400, 404, 406, 409, 413, 415, 422, 503),
    },
    openapi_extra=REASON_BODY,
)
async def requeue(
    request: Request, caller: Administrator, task_id: TaskId, administration: AdministrationService
) -> Response:
    """Take a running task from the worker that has it, which stops at its next beat. Any other task is a conflict."""
    await administration.task(task_id, principal=caller)
    reason = await _reason(request)
    seen = await administration.requeue(task_id, principal=caller, reason=reason)
    return json_response(task_document(seen), 202, headers=NO_STORE)


@router.get(
    "/tasks/{task_id}/deliveries",
    response_class=Response,
    summary="The attempts at the webhooks of anybody's task",
    responses={200: {"model": DeliveryList, "description": "The newest first."}, **problems(404, 406, 503)},
)
async def deliveries(
    request: Request, caller: Administrator, task_id: TaskId, administration: AdministrationService
) -> Response:
    """Return each attempt: when, how it was answered, how long it took, and when the next one was due; no address."""
    found = await administration.deliveries(task_id, principal=caller)
    require_json_accepted(request)
    return model_response(DeliveryList.of(found), headers=NO_STORE)


@router.post(
    "/tasks/{task_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_class=Response,
    summary="Send a webhook of anybody's task again",
    responses={
        202: {"model": WebhookAccepted, "description": "It is due now."},
        **problems(400, 404, 406, 413, 415, 422, 503),
    },
    openapi_extra=REASON_BODY,
)
async def redeliver(
    request: Request, caller: Administrator, task_id: TaskId, delivery_id: str, administration: AdministrationService
) -> Response:
    """Send the same bytes under the same id at once, whatever became of it; and by its schedule if that fails."""
    await administration.task(task_id, principal=caller)
    reason = await _reason(request)
    webhook_id = await administration.redeliver(task_id, delivery_id, principal=caller, reason=reason)
    return model_response(WebhookAccepted(webhook_id=webhook_id), 202, headers=NO_STORE)


@router.get(
    "/dead-letters",
    response_class=Response,
    summary="Tasks that were given up",
    responses={200: {"description": "The oldest dead letters."}, **problems(406, 422, 503)},
    openapi_extra={"parameters": ADMIN_LIST_PARAMETERS["parameters"][3:4]},
)
async def dead_letters(request: Request, caller: Administrator, administration: AdministrationService) -> Response:
    """Return the oldest dead letters, each with its reason. They stay where they are."""
    require_json_accepted(request)
    query = Query(request, {"limit"})
    limit = query.one("limit", page_limit, DEFAULT_LIMIT)
    query.require_nothing_wrong()
    return _items([_letter(letter) for letter in await administration.dead_letters(principal=caller, limit=limit)])


@router.post(
    "/dead-letters/{letter_id}/redrive",
    status_code=202,
    response_class=Response,
    summary="Run a given-up task again",
    responses={
        202: {"description": "It runs again from its last checkpoint, or needs no more; the letter is gone."},
        **problems(400, 404, 406, 413, 415, 422, 500, 503),
    },
    openapi_extra=REASON_BODY,
)
async def redrive(
    request: Request, caller: Administrator, letter_id: str, administration: AdministrationService
) -> Response:
    """Run the task of a dead letter again, and remove the letter. `letter_id` may be the letter's or the task's id."""
    reason = await _reason(request)
    runs_again = await administration.redrive(letter_id, principal=caller, reason=reason)
    return json_response({"task_id": str(runs_again) if runs_again else None, "runs_again": bool(runs_again)}, 202)


@router.post(
    "/dead-letters/{letter_id}/purge",
    status_code=204,
    response_class=Response,
    summary="Remove a dead letter",
    responses={
        204: {"description": "It is gone; its task stays FAILED."},
        **problems(400, 404, 406, 413, 415, 422, 503),
    },
    openapi_extra=REASON_BODY,
)
async def purge(
    request: Request, caller: Administrator, letter_id: str, administration: AdministrationService
) -> Response:
    """Remove a dead letter for good. Its owner may still retry the task."""
    reason = await _reason(request)
    await administration.purge(letter_id, principal=caller, reason=reason)
    return Response(status_code=204)


async def _reason(request: Request) -> str:
    """Read why a change is made, for the audit; a request without a body gives none.

    Raises:
        ValidationFailed: The body is not an object with a `reason` of 1 to 500 characters.
    """
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        require_json_accepted(request)
        return ""
    _, value = await read_json(request, limit=MAX_REASON_BODY)
    match value:
        case {"reason": str(reason)} if len(value) == 1 and REASON.fullmatch(reason.strip()):
            return reason.strip()
        case _:
            wrong = FieldError(pointer="#/reason", detail=f"A text of 1 to {MAX_REASON} characters, and nothing else.")
            raise ValidationFailed("The body is not valid.", errors=[wrong])


def _items(items: list[dict[str, Any]], *, next_cursor: str | None = None) -> Response:
    shown: dict[str, Any] = {"items": items}
    if next_cursor is not None:
        shown["next_cursor"] = next_cursor
    return json_response(shown, headers=NO_STORE)


def queue_document(figures: QueueFigures) -> dict[str, Any]:
    """Return a queue's figures as JSON values; `paused` is null, or since when, by whom and why."""
    shown = asdict(figures)
    if figures.paused is not None:
        shown["paused"]["since"] = rfc3339(figures.paused.since)
    return shown


def worker_document(worker: WorkerReport) -> dict[str, Any]:
    """Return a worker as JSON values."""
    shown = asdict(worker)
    for one in (shown, *shown["tasks"]):
        one["started_at"] = rfc3339(moment(one["started_at"]))
    shown["seen_at"] = rfc3339(moment(worker.seen_at))
    return shown


def task_document(seen: Seen) -> dict[str, Any]:
    """Return a task as an operator sees it, as JSON values; absent ones are left out."""
    task = seen.task
    times = {
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "next_attempt_at": task.next_attempt_at if task.status is TaskStatus.PENDING else None,
        "lease_until": seen.holder and seen.holder.lease_until,
        "stalled_since": seen.stalled and seen.stalled.since,
    }
    shown = {
        "task_id": str(task.id),
        "owner": task.owner_id,
        "action": task.action,
        "queue": {"name": task.queue},
        "status": task.status.value,
        "progress": task.progress,
        "message": task.message,
        "seq": task.seq,
        "run": task.run,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "labels": list(task.labels),
        "cancel_requested": task.cancel_requested or None,
        "error": task.error and json.loads(task.error.model_dump_json(exclude_none=True)),
        "worker": seen.holder and seen.holder.worker,
        "stalled": seen.stalled and seen.stalled.reason,
        **{name: at and rfc3339(at) for name, at in times.items()},
    }
    return {name: value for name, value in shown.items() if value is not None}


def _letter(letter: DeadLetter) -> dict[str, Any]:
    task_id: UUID | None = letter.task_id
    shown = {
        "id": letter.id,
        "task_id": str(task_id) if task_id and task_id.int else None,
        "action": letter.action or None,
        "queue": letter.queue or None,
        "reason": letter.reason or None,
        "buried_at": rfc3339(letter.buried_at) if letter.buried_at else None,
    }
    return {name: value for name, value in shown.items() if value is not None}
