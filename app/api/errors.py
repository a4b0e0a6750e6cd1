"""Errors of the domain as answers: the only place that knows which HTTP status a slug has."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app.domain.errors import (
    InsufficientScope,
    LimitExceeded,
    LonghaulError,
    Malformed,
    NotFound,
    RangeNotSatisfiable,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from app.domain.limits import RateStatus
from app.domain.problem import Problem, problem_type
from app.observability.logging import get_log

REALM: Final = 'Bearer realm="longhaul"'
MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final = {
    "malformed": 400,
    "unauthorized": 401,
    "insufficient-scope": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "conflict": 409,
    "not-finished": 409,
    "gone": 410,
    "payload-too-large": 413,
    "unsupported-media-type": 415,
    "range-not-satisfiable": 416,
    "validation": 422,
    "idempotency-key-reused": 422,
    "rate-limited": 429,
    "quota-exceeded": 429,
    "headers-too-large": 431,
    "internal": 500,
    "bad-gateway": 502,
    "queue-full": 503,
    "broker-unavailable": 503,
    "store-unavailable": 503,
    "overloaded": 503,
    "gateway-timeout": 504,
}

log = get_log("api")


class NoSuchPath(NotFound):
    """There is nothing at this path."""


class MethodNotAllowed(LonghaulError):
    """This method is not served here."""

    slug = "method-not-allowed"

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(f"Served here: {', '.join(allowed)}.")
        self.allowed = allowed


def title_of(slug: str) -> str:
    """Return a slug in words."""
    return slug.replace("-", " ").capitalize()


def rate_headers(rate: RateStatus) -> dict[str, str]:
    """Return the header fields that tell a caller of its submission rate (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "RateLimit-Policy": f'"submit";q={rate.quota};w={rate.window_seconds}',
        "RateLimit": f'"submit";r={rate.remaining};t={rate.next_unit_seconds}',
    }


def problem_response(error: LonghaulError, scope: Scope, *, request_id: str) -> Response:
    """Return the answer to a request that ended in this error; its `instance` is the path as it was sent."""
    problem = Problem(
        type=problem_type(error.slug),
        title=title_of(error.slug),
        status=STATUS[error.slug],
        detail=error.detail,
        instance=scope["raw_path"].decode("latin-1") or None,
        request_id=request_id,
        errors=list(error.errors) or None,
        retry_after=error.retry_after,
    )
    return Response(
        problem.model_dump_json(exclude_none=True),
        STATUS[error.slug],
        headers=_headers(error),
        media_type=MEDIA_TYPE,
    )


def _headers(error: LonghaulError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    match error:
        case Unauthorized():
            headers["WWW-Authenticate"] = REALM + (', error="invalid_token"' if error.token_was_sent else "")
        case InsufficientScope():
            scope = f', scope="{error.scope}"' if error.scope else ""
            headers["WWW-Authenticate"] = f'{REALM}, error="insufficient_scope"{scope}'
        case UnsupportedMediaType():
            headers["Accept-Post"] = "application/json"
        case MethodNotAllowed():
            headers["Allow"] = ", ".join(error.allowed)
        case RangeNotSatisfiable():
            headers["Content-Range"] = f"bytes */{error.size}"
            headers["Accept-Ranges"] = "bytes"
        case Unavailable():
            headers["Retry-After"] = str(error.retry_after)
        case LimitExceeded():
            headers["Retry-After"] = str(error.retry_after)
            headers |= rate_headers(error.rate)
        case _:
            pass
    return headers


async def answer_error(request: Request, error: Exception) -> Response:
    """Turn an error of the domain, or of the router, into its answer; others go on to the middleware's net."""
    if isinstance(error, HTTPException):
        error = _of_the_router(request, error)
    if not isinstance(error, LonghaulError):
        raise error
    if STATUS[error.slug] >= 500:
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        log.warning("refused", slug=error.slug, reason=error.detail, cause=cause)
    return problem_response(error, request.scope, request_id=request.state.request_id)


def _of_the_router(request: Request, error: HTTPException) -> LonghaulError:
    match error.status_code:
        case 404:
            return NoSuchPath()
        case 405:
            # The router tells the methods of the first route that fits; there may be more at the same path.
            told = (error.headers or {}).get("Allow", "").split(", ")
            known = request.app.state.methods.at(request.scope["path"])
            return MethodNotAllowed(sorted({*known, *filter(None, told)}))
        case _:
            return Malformed(str(error.detail))
