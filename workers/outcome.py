"""How a handler ends: it returns a Result, or nothing, or it raises."""

import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from app.domain.errors import LeaseLost, LonghaulError
from app.domain.task import ResultFile

MAX_DETAIL: Final = 500


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler made; `Job.save` returns it, and the handler returns it in turn."""

    file: ResultFile | None = None


class Retry(Exception):
    """Raised by a handler: this attempt has failed, and the next one begins after `after`."""

    def __init__(self, after: timedelta | float, reason: str = "The handler wants to be tried again.") -> None:
        """Say when, and why.

        Args:
            after: How long to wait; seconds, or a timedelta.
            reason: For the task's owner.
        """
        super().__init__(reason)
        self.after = after if isinstance(after, timedelta) else timedelta(seconds=after)


class Fatal(Exception):
    """Raised by a handler: the work has failed, and trying again is of no use."""


class AttemptFailed(LonghaulError):
    """The work failed."""

    slug = "handler-error"

    def __init__(
        self,
        detail: str,
        *,
        where: str = "",
        kind: str = "handler-error",
        fatal: bool = False,
        wait: timedelta | None = None,
    ) -> None:
        """Describe the failure.

        Args:
            detail: For the task's owner: what the handler said.
            where: For the log: the kind of error and its place in the code, without what it said.
            kind: The slug of the problem that the task's `error` becomes, should this be its last attempt.
            fatal: Whether trying again is of no use.
            wait: How long to wait before it is tried again, if the handler has said so.
        """
        super().__init__(presentable(detail))
        self.where = where
        self.kind = kind
        self.fatal = fatal
        self.wait = wait


def presentable(text: str, length: int = MAX_DETAIL) -> str:
    """Return a handler's words as they can be stored and shown: 500 characters at most, and no half of a surrogate."""
    return text[:length].encode(errors="replace").decode()


def failure(error: BaseException) -> LonghaulError:
    """Return what to make of an error that a handler raised: a lost lease stays one, all else is a failed attempt."""
    if isinstance(error, LeaseLost):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    kind = type(error).__name__
    try:
        words = str(error)
    except Exception:  # noqa: BLE001  # an error's own __str__ may be at fault
        words = "(it cannot be described)"
    if isinstance(error, Retry):
        return AttemptFailed(words, where=f"Retry{place}", wait=error.after)
    if isinstance(error, Fatal):
        return AttemptFailed(words or kind, where=f"Fatal{place}", fatal=True)
    return AttemptFailed(f"{kind}: {words}" if words else kind, where=f"{kind}{place}")


def result_of(returned: Any) -> Result:
    """Return what a handler returned as a Result; None is an empty one.

    Raises:
        TypeError: It is something else.
    """
    if returned is None:
        return Result()
    if not isinstance(returned, Result):
        raise TypeError(f"a handler returns what job.save returned, or None, and not {type(returned).__name__}")
    return returned
