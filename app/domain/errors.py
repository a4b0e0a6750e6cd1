"""Every exception that Longhaul raises, as one tree sorted by whose fault it is.

A class names the problem's slug; `app/api/errors.py` alone knows which HTTP status a slug has. The class's docstring is
the sentence a caller reads when nothing more exact is known. *Unknown* is not *failed*: `OutcomeUnknown` says so.
"""

from collections.abc import Sequence
from typing import ClassVar

from app.domain.problem import FieldError


class LonghaulError(Exception):
    """Something went wrong on our side."""

    slug: ClassVar[str] = "internal"

    def __init__(
        self, detail: str | None = None, *, errors: Sequence[FieldError] = (), retry_after: int | None = None
    ) -> None:
        """Describe one occurrence.

        Args:
            detail: What happened this time; the class's first sentence when omitted. Shown to callers.
            errors: Which fields or parameters are at fault.
            retry_after: Whole seconds after which another try makes sense.
        """
        self.detail = detail or str(type(self).__doc__).partition("\n")[0]
        self.errors = tuple(errors)
        self.retry_after = retry_after
        super().__init__(self.detail)


# --- the caller's: nothing was done, and repeating the same request changes nothing


class Refused(LonghaulError):
    """The request was refused."""


class Malformed(Refused):
    """The request cannot be read."""

    slug = "malformed"


class Unauthorized(Refused):
    """A valid bearer token is required."""

    slug = "unauthorized"

    def __init__(self, detail: str | None = None, *, token_was_sent: bool = False) -> None:
        super().__init__(detail)
        self.token_was_sent = token_was_sent


class InsufficientScope(Refused):
    """The token's scopes do not cover this request."""

    slug = "insufficient-scope"

    def __init__(self, detail: str | None = None, *, scope: str | None = None) -> None:
        super().__init__(detail)
        self.scope = scope


class NotFound(Refused):
    """There is no such thing here, or it is not yours."""

    slug = "not-found"


class NotAcceptable(Refused):
    """Only application/json is served here."""

    slug = "not-acceptable"


class Conflict(Refused):
    """The task's state does not allow this."""

    slug = "conflict"


class NotFinished(Refused):
    """The task has not ended yet."""

    slug = "not-finished"


class Gone(Refused):
    """It was here, and has been removed."""

    slug = "gone"


class PayloadTooLarge(Refused):
    """The body is too large."""

    slug = "payload-too-large"


class UnsupportedMediaType(Refused):
    """The body must be application/json, in UTF-8, without a Content-Encoding."""

    slug = "unsupported-media-type"


class RangeNotSatisfiable(Refused):
    """No byte of the requested range exists."""

    slug = "range-not-satisfiable"

    def __init__(self, detail: str | None = None, *, size: int) -> None:
        super().__init__(detail)
        self.size = size


class ValidationFailed(Refused):
    """The request is well-formed, but not what is expected."""

    slug = "validation"


class IdempotencyKeyReused(Refused):
    """This Idempotency-Key was used with another body."""

    slug = "idempotency-key-reused"


class HeadersTooLarge(Refused):
    """The request's header fields are too large."""

    slug = "headers-too-large"


# --- ours: nothing was done, and a later try may succeed


class Unavailable(LonghaulError):
    """A part of the service is away; nothing was accepted."""

    def __init__(self, detail: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(detail, retry_after=retry_after)


class BrokerUnavailable(Unavailable):
    """The message broker cannot take the task at the moment; nothing was accepted."""

    slug = "broker-unavailable"


class QueueFull(Unavailable):
    """The queue has reached its depth limit; nothing was accepted."""

    slug = "queue-full"


class Overloaded(Unavailable):
    """This process has as much to do as it can take on."""

    slug = "overloaded"


class Restarting(Overloaded):
    """This process is about to stop; another one answers."""


class StoreUnavailable(Unavailable):
    """The state store does not answer at the moment."""

    slug = "store-unavailable"


class ArchiveUnavailable(Unavailable):
    """The archive does not answer at the moment."""

    slug = "store-unavailable"


# --- ours: it may or may not have been done


class OutcomeUnknown(LonghaulError):
    """The task may run: its acceptance could not be confirmed. Repeat the request with the same Idempotency-Key."""


class PublishUnconfirmed(LonghaulError):
    """The message was sent, but not confirmed in time: it may have arrived, or arrive later."""


# --- a worker's: another one has the task


class LeaseLost(LonghaulError):
    """The lease has gone to another worker, or the task has ended: write nothing more."""


class Undecryptable(LonghaulError):
    """The sealed bytes do not open under any known key, or belong to another task."""

    slug = "undecryptable"


# --- the operator's


class ConfigurationError(LonghaulError):
    """The configuration cannot be used."""
