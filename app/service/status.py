"""Status: read one task, or list one's own. The store answers; the archive will, for what Redis does not hold."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from app.domain.errors import NotFound, ValidationFailed
from app.domain.lifecycle import TaskStatus
from app.domain.problem import FieldError
from app.domain.task import Task
from app.security.principal import Principal, Scope, authorize
from app.store.keys import owner_id
from app.store.tasks import TaskStore

STRETCH: Final = 200
"""How many tasks are read at once while a list is filtered."""
EXPIRED_AFTER: Final = timedelta(minutes=10)
"""A listed id without a task is that of a submission under way, or, when it is older than this, of an expired task."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of the caller's tasks are wanted; an empty collection leaves that open."""

    statuses: Collection[TaskStatus] = field(default=())
    actions: Collection[str] = field(default=())
    labels: Collection[str] = field(default=())
    """All of them."""
    created_after: datetime | None = None
    """Inclusive."""
    created_before: datetime | None = None
    """Exclusive."""

    def takes(self, task: Task) -> bool:
        """Whether the task is one of those."""
        return (
            (not self.statuses or task.status in self.statuses)
            and (not self.actions or task.action in self.actions)
            and set(self.labels) <= set(task.labels)
            and (self.created_after is None or task.created_at >= self.created_after)
            and (self.created_before is None or task.created_at < self.created_before)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a list, and where the next one begins."""

    tasks: list[Task]
    next_cursor: str | None


class Statuses:
    """Reads tasks on behalf of their owners."""

    def __init__(self, *, tasks: TaskStore) -> None:
        self._tasks = tasks

    async def read(self, task_id: UUID, *, principal: Principal) -> Task:
        """Return the caller's task.

        Raises:
            InsufficientScope: The caller may not read.
            NotFound: There is none of this id, or it is another's: the two look the same.
        """
        owner = authorize(principal, Scope.READ, task_id=task_id)
        task = await self._tasks.find(task_id)
        if task is None or task.owner_id != owner_id(owner):
            raise NotFound
        return task

    async def page(self, wanted: Filter, *, principal: Principal, limit: int, cursor: str | None) -> Page:
        """Return the caller's tasks, newest first, tasks of the same millisecond by falling id.

        Raises:
            InsufficientScope: The caller may not read.
            ValidationFailed: The cursor is none of ours.
        """
        owner = owner_id(authorize(principal, Scope.READ))
        after = _read_cursor(cursor) if cursor is not None else None
        newest = after[0] if after else None
        if wanted.created_before is not None:
            before = _milliseconds(wanted.created_before)
            newest = before if newest is None else min(newest, before)
        found: list[Task] = []
        offset = 0
        while True:
            ids = await self._tasks.owned_ids(owner, newest=newest, offset=offset, count=STRETCH)
            rows = await self._tasks.find_many([task_id for task_id, _ in ids]) if ids else []
            await self._drop_expired(owner, ids, rows)
            offset += sum(row is not None or not _is_old(created) for (_, created), row in zip(ids, rows, strict=True))
            for (task_id, created), task in zip(ids, rows, strict=True):
                if after is not None and (created, str(task_id)) >= after:
                    continue
                if wanted.created_after is not None and created < _milliseconds(wanted.created_after):
                    return Page(found, None)
                if task is None or not wanted.takes(task):
                    continue
                if len(found) == limit:
                    last = found[-1]
                    return Page(found, _cursor(last))
                found.append(task)
            if len(ids) < STRETCH:
                return Page(found, None)

    async def _drop_expired(self, owner: str, ids: list[tuple[UUID, int]], rows: list[Task | None]) -> None:
        expired = [
            task_id for (task_id, created), row in zip(ids, rows, strict=True) if row is None and _is_old(created)
        ]
        if expired:
            await self._tasks.forget_ids(owner, expired)


def _is_old(created: int) -> bool:
    return datetime.now(UTC) - datetime.fromtimestamp(created / 1000, tz=UTC) > EXPIRED_AFTER


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, tz=UTC)) // timedelta(milliseconds=1)


def _cursor(task: Task) -> str:
    return urlsafe_b64encode(f"{_milliseconds(task.created_at)}:{task.id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, str]:
    try:
        created, _, task_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        return int(created), str(UUID(task_id))
    except ValueError as error:
        wrong = FieldError(parameter="cursor", detail="This is not a cursor that a list has returned.")
        raise ValidationFailed("The cursor is broken.", errors=[wrong]) from error
