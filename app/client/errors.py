"""What can go wrong for a client, sorted by who has to do something about it.

This is a tree of its own beside `app/domain/errors.py`: those classes are the service's refusals before they cross the
wire, these are what arrives on the other side, where also the wire itself can fail.
"""

import os
import socket

import httpx
from pydantic import ValidationError

from app.domain.problem import FieldError, Problem

PROBLEM_TYPE = "application/problem+json"

# 503s and 429s that say: nothing was accepted. Any other failure of a submission leaves open whether it was.
PROMISE_THAT_NOTHING_WAS_ACCEPTED = frozenset({"broker-unavailable", "queue-full", "rate-limited", "quota-exceeded"})


class ClientError(Exception):
    """A call failed; the message is one readable line."""


class ServiceProblem(ClientError):
    """The service answered with a problem (RFC 9457).

    Attributes:
        slug: The last part of the problem's `type`: `queue-full`, `validation` …
        status: The HTTP status.
        title: The same for every occurrence of the slug.
        detail: What happened this time; None when the service says no more than the title.
        errors: The fields or query parameters at fault.
        retry_after: Seconds after which another try makes sense, or None.
        request_id: What to tell the operator, who finds it in the logs.
    """

    def __init__(
        self, problem: Problem, *, status: int, retry_after: int | None = None, request_id: str | None = None
    ) -> None:
        """Take a problem that was read, and what its response's headers add.

        Args:
            problem: The body.
            status: The response's status, which counts more than the body's.
            retry_after: The header's seconds, used where the body has none.
            request_id: The header's id, used where the body has none.
        """
        self.slug = problem.type.rstrip("/").rpartition("/")[2]
        self.status = status
        self.title = problem.title
        self.detail = problem.detail
        self.errors: tuple[FieldError, ...] = tuple(problem.errors or ())
        self.retry_after = problem.retry_after or retry_after
        self.request_id = problem.request_id or request_id
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        fields = "; ".join(f"{error.pointer or error.parameter or 'request'}: {error.detail}" for error in self.errors)
        return f"{self.slug}: {self.detail or self.title}" + (f" ({fields})" if fields else "")

    @property
    def outcome_is_unknown(self) -> bool:
        """Whether the request may have been carried out all the same."""
        return self.status >= httpx.codes.INTERNAL_SERVER_ERROR and self.slug not in PROMISE_THAT_NOTHING_WAS_ACCEPTED


class Unreachable(ClientError):
    """No answer came from the service.

    Attributes:
        outcome_is_unknown: Whether the request may have arrived; False when no connection was made at all.
    """

    def __init__(self, message: str, *, outcome_is_unknown: bool) -> None:
        super().__init__(message)
        self.outcome_is_unknown = outcome_is_unknown


class UnexpectedAnswer(ClientError):
    """An answer came that is outside the contract: most likely the URL leads to something else."""


class ResultCorrupt(ClientError):
    """The downloaded file is not the one that the task made, by its size or its sha256; it was not kept."""


def error_of_answer(response: httpx.Response) -> ServiceProblem | UnexpectedAnswer:
    """Turn an answer that is neither 2xx nor 304 into the exception for it. Its body must have been read."""
    where = f"{response.request.method} {response.request.url.copy_with(query=None)}"
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != PROBLEM_TYPE:
        kind = media_type or "nothing"
        return UnexpectedAnswer(f"{where} answered {response.status_code} with {kind}: is this URL a Longhaul service?")
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return UnexpectedAnswer(f"{where} answered {response.status_code} with a problem that cannot be read")
    return ServiceProblem(
        problem,
        status=response.status_code,
        retry_after=retry_after_of(response),
        request_id=response.headers.get("X-Request-ID"),
    )


def retry_after_of(response: httpx.Response) -> int | None:
    """Return the header Retry-After in whole seconds; None when absent or, as a date, in the form we never send."""
    value = response.headers.get("Retry-After", "").strip()
    return int(value) if value.isascii() and value.isdigit() else None


def error_of_connection(error: httpx.RequestError, base_url: str) -> Unreachable | UnexpectedAnswer:
    """Turn httpx's own exception into ours, with a sentence that names the cause."""
    if not isinstance(error, httpx.TransportError):
        return UnexpectedAnswer(f"{base_url} sent an answer that cannot be decoded: {error}")
    # These three end before the first byte of the request is written; after every other one it may have arrived.
    never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError)
    verb = "cannot be reached" if never_sent else "broke off without an answer"
    return Unreachable(f"{base_url} {verb}: {_cause(error)}", outcome_is_unknown=not never_sent)


def _cause(error: BaseException) -> str:
    """Find the sentence that says most: the operating system's, at the end of the chain, else the first with words."""
    words = str(error)
    following: BaseException | None = error
    while following is not None:
        if isinstance(following, OSError) and following.strerror:
            # asyncio puts words of its own into strerror ("Connect call failed"); only a look-up's are the system's.
            if following.errno is None or isinstance(following, socket.gaierror):
                return following.strerror.lower()
            return os.strerror(following.errno).lower()
        words = words or str(following)
        if isinstance(following, BaseExceptionGroup):  # one attempt for each address of the host
            following = following.exceptions[0]
        else:
            following = following.__cause__ or following.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return words or type(error).__name__
