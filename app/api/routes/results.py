"""`GET /v1/workload/{task_id}/result`: download what a task made."""

import re
from base64 import b64encode
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from app.api.dependencies import ResultReader, ResultService, TaskId
from app.api.documents import RESULT_PARAMETERS, RESULT_RESPONSES, problems
from app.api.showing import matches
from app.domain.errors import RangeNotSatisfiable
from app.domain.task import ResultFile

SINGLE_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)

router: Final = APIRouter(tags=["workload"])


@router.get(
    "/v1/workload/{task_id}/result",
    response_class=Response,
    summary="Download a task's result",
    responses={**RESULT_RESPONSES, **problems(404, 409, 410, 416, 503)},
    openapi_extra=RESULT_PARAMETERS,
)
async def result(request: Request, reader: ResultReader, task_id: TaskId, results: ResultService) -> Response:
    """Stream the result file; `Range` continues a broken download, `If-Range` if it is still the same.

    The signed link of a webhook opens it without a token, until the result is removed.
    """
    file = await results.describe(task_id, reader=reader)
    headers = _headers(file)
    etag = headers["ETag"]
    if matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control", "Vary")})
    wanted = _wanted_range(request, file, etag)
    start, end = wanted or (0, file.size)
    headers["Content-Length"] = str(end - start)
    status = 200
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        status = 206
    if request.state.is_head:
        return Response(status_code=status, headers=headers)
    chunks = await results.read(file, start, end)
    return StreamingResponse(chunks, status, headers=headers)


def _headers(file: ResultFile) -> dict[str, str]:
    return {
        "Content-Type": file.content_type,  # here, since Starlette would add a charset to what begins with text/
        "ETag": f'"{file.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": _disposition(file.filename),
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(file.sha256)).decode()}:",
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }


def _disposition(filename: str) -> str:
    """Write Content-Disposition (RFC 6266): a plain name for all, and the exact one in UTF-8 (RFC 8187)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    exact = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{exact}'


def _wanted_range(request: Request, file: ResultFile, etag: str) -> tuple[int, int] | None:
    """Return the one range that is asked for, as start and end; None for the whole file.

    Several ranges, another unit, or an If-Range that names another file all lead to the whole (RFC 9110, section 14.2).
    """
    found = SINGLE_RANGE.fullmatch(request.headers.get("range", ""))
    condition = request.headers.get("if-range")
    if found is None or (condition is not None and condition.strip() != etag):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, file.size - int(last)), file.size
    else:
        start, end = int(first), min(int(last) + 1, file.size) if last else file.size
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise RangeNotSatisfiable(f"The file has {file.size} bytes.", size=file.size)
    return start, end
