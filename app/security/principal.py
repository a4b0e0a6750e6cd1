"""Principal: who asks, and `authorize`, the only place that decides what they may do."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from app.domain.errors import InsufficientScope, NotFound
from app.domain.task import Owner


class Scope(StrEnum):
    """What a token may be used for (RFC 6749, section 3.3)."""

    SUBMIT = "workload:submit"
    READ = "workload:read"
    ADMIN = "workload:admin"


DEFAULT_SCOPES = frozenset({Scope.SUBMIT, Scope.READ})
"""Of a token that has no `scope` claim."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a verified token. A task token is its owner's, for one task only."""

    owner: Owner
    scopes: frozenset[str]
    expires_at: int
    """Seconds since the epoch, from `exp`."""
    only_task: UUID | None = None


def authorize(principal: Principal, scope: Scope, *, task_id: UUID | None = None, owned_by: str | None = None) -> Owner:
    """Decide whether the caller may use a route, and as whom.

    What is another's and what is unknown are both NotFound, and look the same. So this is asked before a task is read,
    and again with whose it is.

    Args:
        principal: Who asks.
        scope: What the route needs.
        task_id: The one task that the route is about, where there is one that a task token may open.
        owned_by: The digest of the task's owner, once it is known.

    Raises:
        NotFound: A task token, on another task; or the task is another's.
        InsufficientScope: The scope is missing, or a task token is used on a route that is not about its task.
    """
    if principal.only_task is not None:
        if task_id is None:
            raise InsufficientScope("A task token opens its own task only.", scope=scope)
        if task_id != principal.only_task:
            raise NotFound
    if scope not in principal.scopes:
        raise InsufficientScope(f"The scope {scope} is needed.", scope=scope)
    if owned_by is not None and owned_by != principal.owner.digest:
        raise NotFound
    return principal.owner
