"""`GET /v1/workload/status/{task_id}` and `GET /v1/workload`: read one's tasks."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.bodies import require_json_accepted
from app.api.dependencies import Configuration, DocumentTexts, Reader, StatusService, TaskId, WatchingService
from app.api.direct import DirectRoute
from app.api.documents import LIST_PARAMETERS, STATUS_PARAMETERS, problems
from app.api.preferences import applied, wait_seconds
from app.api.queries import DEFAULT_LIMIT, Query, page_limit
from app.api.showing import CACHE_HEADERS, etag_of, json_response, matches, status_response
from app.api.waiting import while_connected
from app.domain.lifecycle import TaskStatus
from app.domain.task import StatusDocument, Task, document_of
from app.service.status import Filter

PARAMETERS: Final = frozenset({"status", "action", "label", "created_after", "created_before", "limit", "cursor"})

router: Final = APIRouter(tags=["workload"], route_class=DirectRoute)


@router.get(
    "/v1/workload/status/{task_id}",
    response_class=Response,
    summary="Read a task's status",
    responses={
        200: {"model": StatusDocument, "description": "The status document."},
        304: {"description": "Unchanged."},
        **problems(404, 406, 503),
    },
    openapi_extra=STATUS_PARAMETERS,
)
async def status(
    request: Request,
    caller: Reader,
    task_id: TaskId,
    statuses: StatusService,
    watching: WatchingService,
    settings: Configuration,
    documents: DocumentTexts,
) -> Response:
    """Return the task as it is now. Cheap: send the last `ETag` as `If-None-Match`, and an unchanged task is a 304.

    With `Prefer: wait=N` the answer comes when the task has ended, or, with `If-None-Match`, with its next change; and
    after N seconds in any case.
    """
    task = await statuses.read(task_id, principal=caller)
    require_json_accepted(request)
    seconds = wait_seconds(request.headers.getlist("prefer"), at_most=settings.max_poll_wait_seconds)
    if seconds is not None:
        enough = _is_news(request, task)
        if not enough(task):
            waiting = watching.wait(task_id, principal=caller, seconds=seconds, enough=enough)
            task = await while_connected(request, waiting)
    webhook = await statuses.webhook(task)
    return status_response(request, task, documents=documents, webhook=webhook, headers=applied(seconds))


def _is_news(request: Request, first: Task) -> Callable[[Task], bool]:
    """Return what tells whether the caller waits no longer: the task's end, or another state than those it knows."""
    known = request.headers.getlist("if-none-match")
    if not known:
        return lambda task: task.status.is_terminal
    if not matches(known, etag_of(first)):
        return lambda _: True
    return lambda task: task.seq > first.seq


@router.get(
    "/v1/workload",
    response_class=Response,
    summary="List one's tasks",
    responses={200: {"description": "A page of status documents."}, **problems(406, 422, 503)},
    openapi_extra=LIST_PARAMETERS,
)
async def list_tasks(request: Request, caller: Reader, statuses: StatusService, settings: Configuration) -> Response:
    """Return the caller's tasks, newest first, a page at a time."""
    require_json_accepted(request)
    query = Query(request, PARAMETERS)
    wanted = Filter(
        statuses=query.many("status", TaskStatus),
        actions=query.many("action", str),
        labels=query.many("label", str),
        created_after=query.one("created_after", _moment, None),
        created_before=query.one("created_before", _moment, None),
    )
    limit = query.one("limit", page_limit, DEFAULT_LIMIT)
    cursor = query.one("cursor", str, None)
    query.require_nothing_wrong()
    page = await statuses.page(wanted, principal=caller, limit=limit, cursor=cursor)
    webhooks = await asyncio.gather(*map(statuses.webhook, page.tasks))
    shown: dict[str, Any] = {
        "items": [
            document_of(task, public_url=settings.public_url, webhook=webhook)
            for task, webhook in zip(page.tasks, webhooks, strict=True)
        ]
    }
    headers = dict(CACHE_HEADERS)
    if page.next_cursor is not None:
        shown["next_cursor"] = page.next_cursor
        others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        target = f"{request.url.path}?{urlencode([*others, ('cursor', page.next_cursor)])}"
        headers["Link"] = f'<{target}>; rel="next"'
    return json_response(shown, headers=headers)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not encoded arrives as a space
    if moment.tzinfo is None:
        raise ValueError("a time zone is needed (RFC 3339), for instance 2026-11-24T20:15:30Z")
    return moment
