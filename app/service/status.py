"""Status: read one task, or list one's own. The store answers, and the archive for what Redis does not hold."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from app.archive.archive import Archive, EndedTask
from app.domain.errors import NotFound, ValidationFailed
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds, moment
from app.domain.problem import FieldError
from app.domain.task import Task
from app.security.principal import Principal, Scope, authorize
from app.store.keys import owner_id
from app.store.listing import OwnerLists
from app.store.tasks import TaskStore

STRETCH: Final = 200
"""How many tasks are read at once while a list is filtered."""
LOOK: Final = 1000
"""Of how many tasks it is asked at once whether they are alive."""
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

    def __init__(self, *, tasks: TaskStore, lists: OwnerLists, archive: Archive) -> None:
        self._tasks = tasks
        self._lists = lists
        self._archive = archive

    async def read(self, task_id: UUID, *, principal: Principal, scope: Scope = Scope.READ) -> Task:
        """Return the caller's task.

        Args:
            task_id: The task.
            principal: Who asks.
            scope: What the caller's token must cover.

        Raises:
            InsufficientScope: It does not.
            NotFound: There is none of this id, or it is another's: the two look the same.
            StoreUnavailable: Neither Redis nor the archive can tell.
        """
        owner = authorize(principal, scope, task_id=task_id)
        task = await self._tasks.find(task_id)
        if task is None:
            known = await self._archive.find(task_id)
            task = known.task if isinstance(known, EndedTask) else None
        if task is None or task.owner_id != owner_id(owner):
            raise NotFound
        return task

    async def newest_living(self, owner: str, *, limit: int) -> list[Task]:
        """Return an owner's newest tasks that have not ended, newest first.

        Args:
            owner: The owner's digest.
            limit: How many at most.
        """
        living: list[UUID] = []
        offset = 0
        while len(living) < limit:
            ids = [task_id for task_id, _ in await self._lists.stretch(owner, newest=None, offset=offset, count=LOOK)]
            alive = await self._tasks.are_living(ids) if ids else []
            living += [task_id for task_id, is_alive in zip(ids, alive, strict=True) if is_alive]
            if len(ids) < LOOK:
                break
            offset += LOOK
        tasks = await self._tasks.find_many(living[:limit]) if living else []
        return [task for task in tasks if task is not None and not task.status.is_terminal]

    async def states_of(self, owner: str, task_ids: Sequence[UUID], *, only_ended: bool) -> list[Task]:
        """Return some of an owner's tasks as they are, those that are not known any more left out.

        Args:
            owner: The owner's digest.
            task_ids: The tasks.
            only_ended: Leave out those that are listed as living, which is quickly seen.
        """
        tasks: list[Task] = []
        for start in range(0, len(task_ids), LOOK):
            ids = task_ids[start : start + LOOK]
            if only_ended:
                ids = [one for one, alive in zip(ids, await self._tasks.are_living(ids), strict=True) if not alive]
            found = await self._tasks.find_many(ids) if ids else []
            missing = [task_id for task_id, task in zip(ids, found, strict=True) if task is None]
            rows = await asyncio.gather(*map(self._archive.find, missing))
            tasks += [task for task in found if task is not None]
            tasks += [row.task for row in rows if isinstance(row, EndedTask)]
        return [task for task in tasks if task.owner_id == owner]

    async def page(self, wanted: Filter, *, principal: Principal, limit: int, cursor: str | None) -> Page:
        """Return the caller's tasks, newest first, tasks of the same millisecond by falling id; archived ones, too.

        Raises:
            InsufficientScope: The caller may not read.
            ValidationFailed: The cursor is none of ours.
        """
        owner = owner_id(authorize(principal, Scope.READ))
        after = _read_cursor(cursor) if cursor is not None else None
        found: list[Task] = []
        async with (
            aclosing(self._living(owner, wanted, after)) as living,
            aclosing(self._archived(owner, wanted, after)) as archived,
            aclosing(_merged(living, archived)) as tasks,
        ):
            async for task in tasks:
                if wanted.takes(task):
                    if len(found) == limit:
                        return Page(found, _cursor(found[-1]))
                    found.append(task)
        return Page(found, None)

    async def _living(self, owner: str, wanted: Filter, after: "Place | None") -> AsyncGenerator[Task]:
        """Walk through what Redis holds of an owner's tasks, and take off the list what it holds no more."""
        newest = after[0] if after else None
        if wanted.created_before is not None:
            before = milliseconds(wanted.created_before)
            newest = before if newest is None else min(newest, before)
        offset = 0
        while True:
            ids = await self._lists.stretch(owner, newest=newest, offset=offset, count=STRETCH)
            rows = await self._tasks.find_many([task_id for task_id, _ in ids]) if ids else []
            expired = []
            for (task_id, created), task in zip(ids, rows, strict=True):
                if task is None and _is_old(created):
                    expired.append(task_id)
                elif task is not None and (after is None or _place(task) < after):
                    yield task
            if expired:
                await self._lists.remove(owner, expired)
            oldest = ids[-1][1] if ids else 0
            if len(ids) < STRETCH or (wanted.created_after and oldest < milliseconds(wanted.created_after)):
                return
            offset += len(ids) - len(expired)

    async def _archived(self, owner: str, wanted: Filter, after: "Place | None") -> AsyncGenerator[Task]:
        """Walk through an owner's rows."""
        while True:
            rows = await self._archive.page(
                owner,
                before=after,
                created_after=milliseconds(wanted.created_after) if wanted.created_after else None,
                created_before=milliseconds(wanted.created_before) if wanted.created_before else None,
                statuses=wanted.statuses,
                actions=wanted.actions,
                labels=wanted.labels,
                limit=STRETCH,
            )
            for task in rows:
                yield task
            if len(rows) < STRETCH:
                return
            after = _place(rows[-1])


async def _merged(living: AsyncGenerator[Task], archived: AsyncGenerator[Task]) -> AsyncGenerator[Task]:
    """Merge two walks, both newest first; of a task that comes in both, the living one is right."""
    left, right = await anext(living, None), await anext(archived, None)
    while left is not None or right is not None:
        if right is None or (left is not None and _place(left) >= _place(right)):
            assert left is not None
            yield left
            if right is not None and right.id == left.id:
                right = await anext(archived, None)
            left = await anext(living, None)
        else:
            yield right
            right = await anext(archived, None)


Place = tuple[int, str]
"""Where a task stands in a list: its `created_at` in ms, and its id."""


def _place(task: Task) -> Place:
    return milliseconds(task.created_at), str(task.id)


def _is_old(created: int) -> bool:
    return datetime.now(UTC) - moment(created) > EXPIRED_AFTER


def _cursor(task: Task) -> str:
    return urlsafe_b64encode("{}:{}".format(*_place(task)).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> Place:
    try:
        created, _, task_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        return int(created), str(UUID(task_id))
    except ValueError as error:
        wrong = FieldError(parameter="cursor", detail="This is not a cursor that a list has returned.")
        raise ValidationFailed("The cursor is broken.", errors=[wrong]) from error
