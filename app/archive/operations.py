"""The statements that operators ask: over all owners, by when tasks ended. Both go by the index `ended_by_finish`."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, case, func, literal, select, tuple_

from app.archive.questions import carries, has_later_run
from app.archive.rows import task_of
from app.archive.tables import ended, forgotten
from app.domain.lifecycle import TaskStatus
from app.domain.task import Task


class EndedCount(NamedTuple):
    """Tasks of one action that ended in a stretch of time."""

    ended: int
    created: int
    """How many of them were created in it, too."""


def latest(
    connection: Connection,
    *,
    before: tuple[int, UUID] | None,
    statuses: Collection[TaskStatus],
    actions: Collection[str],
    labels: Collection[str],
    limit: int,
) -> list[Task]:
    """Return ended tasks: the latest `finished_at` first, then by falling id; of each task its newest run."""
    conditions = [
        ~has_later_run(),
        ~select(forgotten.c.task_id).where(forgotten.c.task_id == ended.c.task_id).exists(),
        *map(carries, labels),
    ]
    if before:
        place = tuple_(literal(before[0], ended.c.finished_at.type), literal(before[1], ended.c.task_id.type))
        conditions += [ended.c.finished_at <= before[0], tuple_(ended.c.finished_at, ended.c.task_id) < place]
    if statuses:
        conditions.append(ended.c.status.in_([status.value for status in statuses]))
    if actions:
        conditions.append(ended.c.action.in_(actions))
    statement = (
        select(ended.c.document)
        .where(*conditions)
        .order_by(ended.c.finished_at.desc(), ended.c.task_id.desc())
        .limit(limit)
    )
    return [task_of(document) for document in connection.scalars(statement)]


def ended_since(connection: Connection, *, since: int) -> dict[str, EndedCount]:
    """Count what has ended since, by action."""
    created = func.sum(case((ended.c.created_at >= since, 1), else_=0))
    statement = (
        select(ended.c.action, func.count(), created).where(ended.c.finished_at >= since).group_by(ended.c.action)
    )
    return {action: EndedCount(int(count), int(new)) for action, count, new in connection.execute(statement)}
