"""The transactions that write ends. Each may be repeated.

Who may be in whose way, in PostgreSQL under READ COMMITTED (in SQLite there is one writer at a time):

- Two inserts of one run: the second waits for the first's commit, and gets nothing back from its own INSERT. Groups
  insert in the order of (task, run), so two groups that overlap wait for each other in one direction only.
- `insert` beside `forget`, of a later run: the insert locks the earlier rows of its tasks (FOR KEY SHARE) before all
  else; `forget` locks them (FOR UPDATE) before it sets a mark, and deletes in a statement of its own. A run begins
  after the row of the one before, so one of the two waits for the other's commit, and its next statement sees what
  that did: the insert its mark, or `forget` the new row.
- `insert` beside `forget`, of the same run: the INSERT waits for the DELETE that takes away the row in its way, and the
  question for marks, which comes after it, sees the mark; what was written is deleted again.

So no row outlives its mark. Should one come in by another way (a restored backup), all readers let `forgotten` stand
above it.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, Table, delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from app.archive.rows import Row
from app.archive.tables import ended, forgotten, refused

Key = tuple[UUID, int]
Sent = tuple[UUID, str]
"""A message: its task, and its id."""

WINNER = (ended.c.document, ended.c.envelope, ended.c.checkpoint, ended.c.checkpoint_progress)


def insert(connection: Connection, rows: Sequence[Row]) -> dict[Key, Row | None]:
    """Write the first row of each run.

    Args:
        connection: In a transaction.
        rows: At most one for each task and run.

    Returns:
        For each (task, run): the very row that was given, if it won; the columns WINNER of the one that was there; or
        None, if the task is forgotten.
    """
    if not rows:
        return {}
    by_key: dict[Key, Row] = {(row["task_id"], row["run"]): row for row in rows}
    ids = list({task_id for task_id, _ in by_key})
    if connection.dialect.name == "postgresql":
        lock = select(ended.c.run).where(ended.c.task_id.in_(ids)).order_by(ended.c.task_id, ended.c.run)
        connection.execute(lock.with_for_update(read=True, key_share=True))
    in_order = sorted(by_key, key=lambda key: (key[0].int, key[1]))  # as UUIDs are, whose own comparison is slow
    won = _insert_first(connection, [by_key[key] for key in in_order])
    # Only now: an INSERT may have waited for a `forget` that took away the row in its way.
    barred = set(connection.scalars(select(forgotten.c.task_id).where(forgotten.c.task_id.in_(ids))))
    if barred:
        connection.execute(delete(ended).where(ended.c.task_id.in_(barred)))
    wanted = {key: row for key, row in by_key.items() if key[0] not in barred}
    winners = _read(connection, wanted.keys() - won)
    # Neither written nor there: it was forgotten or purged between our INSERT and our SELECT. Look again.
    vanished = [row for key, row in wanted.items() if key not in won and key not in winners]
    return {
        **dict.fromkeys(by_key),
        **{key: row for key, row in wanted.items() if key in won},
        **winners,
        **insert(connection, vanished),
    }


def _insert_first(connection: Connection, rows: list[Row]) -> set[Key]:
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        statement = insert_new(connection, ended).returning(ended.c.task_id, ended.c.run)
        return {(task_id, run) for task_id, run in connection.execute(statement, rows)}
    # There is one writer: what is not there now will not be there before us. And nothing is read back row by row, for
    # each of which sqlite3 lets go of the interpreter's lock, and gets it from a busy loop milliseconds later.
    ids = {row["task_id"] for row in rows}
    found = select(ended.c.task_id, ended.c.run).where(ended.c.task_id.in_(ids))
    there = {(task_id, run) for task_id, run in connection.execute(found)}
    new = [row for row in rows if (row["task_id"], row["run"]) not in there]
    if new:
        connection.execute(sqlite.insert(ended), new)
    return {(row["task_id"], row["run"]) for row in new}


def _read(connection: Connection, keys: set[Key]) -> dict[Key, Row]:
    if not keys:
        return {}
    statement = select(ended.c.task_id, ended.c.run, *WINNER).where(ended.c.task_id.in_({key[0] for key in keys}))
    rows = {(row["task_id"], row["run"]): dict(row) for row in connection.execute(statement).mappings()}
    return {key: rows[key] for key in keys if key in rows}


def forget(connection: Connection, task_id: UUID, owner_id: str, *, now: int) -> bool:
    """Put a mark in the place of all rows of an owner's ended task.

    The mark keeps the key of a result file that is still there, so that it is removed whatever happens next.

    Returns:
        False, and nothing is changed, if no run of the task has ended, or it is another owner's.
    """
    rows = connection.execute(
        select(ended.c.owner_id, ended.c.result_key)
        .where(ended.c.task_id == task_id)
        .order_by(ended.c.task_id, ended.c.run)
        .with_for_update()
    ).all()
    marked = connection.scalar(select(forgotten.c.owner_id).where(forgotten.c.task_id == task_id))
    if (marked or (rows and rows[0].owner_id)) != owner_id:
        return False
    if not marked:
        result_key = next((row.result_key for row in rows if row.result_key), None)
        connection.execute(
            insert_new(connection, forgotten),
            {"task_id": task_id, "owner_id": owner_id, "forgotten_at": now, "result_key": result_key},
        )
    connection.execute(delete(ended).where(ended.c.task_id == task_id))
    return True


def doubt(connection: Connection, messages: Sequence[Sent], *, now: int) -> None:
    """Hold messages up; one that was refused stays refused."""
    connection.execute(
        insert_new(connection, refused),
        [
            {"task_id": task, "message_id": message, "refused_at": now, "in_doubt": True}
            for task, message in sorted(set(messages))
        ],
    )


def refuse(connection: Connection, messages: Sequence[Sent]) -> set[Sent]:
    """Bar messages that are in doubt, for good; return those that are barred: the doubt about another was lifted."""
    statement = (
        update(refused)
        .where(tuple_(refused.c.task_id, refused.c.message_id).in_(messages))
        .values(in_doubt=False)
        .returning(refused.c.task_id, refused.c.message_id)
    )
    return {(task_id, message_id) for task_id, message_id in connection.execute(statement)}


def lift_doubt(connection: Connection, task_id: UUID, message_id: str) -> None:
    """Let a message through again that is in doubt."""
    connection.execute(
        delete(refused).where(refused.c.task_id == task_id, refused.c.message_id == message_id, refused.c.in_doubt)
    )


def insert_new(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that passes over rows that are there."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
