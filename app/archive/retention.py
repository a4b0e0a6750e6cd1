"""What is removed when its time is over, in portions: none holds SQLite's only writer for long."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, Select, and_, delete, literal, or_, select, tuple_, update
from sqlalchemy.sql.dml import Delete

from app.archive.tables import ended, forgotten, refused

AT_ONCE: Final = 0


@dataclass(frozen=True, slots=True)
class ExpiredResult:
    """A result file that nobody may have any more."""

    task_id: UUID
    key: str


def purge(connection: Connection, *, ended_before: int, refused_before: int, doubted_before: int, limit: int) -> int:
    """Delete rows and marks older than `ended_before`, and refusals and doubts older than their moments.

    A row whose result file is not removed yet stays: nothing else knows of the file.

    Returns:
        How many are gone, at most `limit` of each of the three kinds.
    """
    old_rows = (
        select(ended.c.task_id, ended.c.run)
        .where(ended.c.finished_at < ended_before, ended.c.result_key.is_(None))
        .order_by(ended.c.finished_at)
    )
    old_marks = (
        select(forgotten.c.task_id)
        .where(forgotten.c.forgotten_at < ended_before, forgotten.c.result_key.is_(None))
        .order_by(forgotten.c.forgotten_at)
    )
    old_refusals = (
        select(refused.c.task_id, refused.c.message_id)
        .where(
            or_(
                refused.c.refused_at < refused_before,
                and_(refused.c.in_doubt, refused.c.refused_at < doubted_before),
            )
        )
        .order_by(refused.c.refused_at)
    )
    statements = [
        delete(ended).where(tuple_(ended.c.task_id, ended.c.run).in_(_portion(old_rows, limit))),
        delete(forgotten).where(forgotten.c.task_id.in_(_portion(old_marks, limit))),
        delete(refused).where(tuple_(refused.c.task_id, refused.c.message_id).in_(_portion(old_refusals, limit))),
    ]
    return sum(_deleted(connection, statement) for statement in statements)


def expired_results(connection: Connection, *, now: int, limit: int) -> list[ExpiredResult]:
    """Return result files to remove, those of forgotten tasks first, then those that expired first."""
    statement = (
        select(forgotten.c.task_id, forgotten.c.result_key, literal(AT_ONCE).label("since"))
        .where(forgotten.c.result_key.is_not(None))
        .union_all(
            select(ended.c.task_id, ended.c.result_key, ended.c.result_expires_at).where(
                ended.c.result_expires_at <= now
            )
        )
        .order_by("since")
        .limit(limit)
    )
    return [ExpiredResult(task_id, key) for task_id, key, _ in connection.execute(statement)]


def results_removed(connection: Connection, removed: Sequence[ExpiredResult]) -> None:
    """Note that files are gone."""
    ids, keys = [result.task_id for result in removed], [result.key for result in removed]
    for table, values in (
        (ended, {"result_key": None, "result_expires_at": None}),
        (forgotten, {"result_key": None}),
    ):
        connection.execute(update(table).where(table.c.task_id.in_(ids), table.c.result_key.in_(keys)).values(values))


def _portion(statement: Select[tuple[object, ...]], limit: int) -> Select[tuple[object, ...]]:
    # SKIP LOCKED: two who purge take different portions, and neither waits for a `forget`. SQLite leaves it out.
    # A CTE: PostgreSQL may run a subquery that locks again for each row, and take more than one portion.
    return select(statement.limit(limit).with_for_update(skip_locked=True).cte(nesting=True))


def _deleted(connection: Connection, statement: Delete) -> int:
    return connection.execute(statement).rowcount
