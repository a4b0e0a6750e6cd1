"""The statements that read. Each question is one statement, so that it sees one state of the database.

Under READ COMMITTED every statement has a snapshot of its own: asked one after the other, a task that is deleted in
between would have neither mark nor row, and "nothing" lets a run start.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, case, func, literal, null, select, tuple_, union_all

from app.archive.rows import Doubted, EndedTask, Forgotten, Known, Refused, Row, task_of
from app.archive.tables import ended, forgotten, refused
from app.domain.lifecycle import TaskStatus
from app.domain.moments import moment
from app.domain.task import Task

ENDED, FORGOTTEN, REFUSED, DOUBTED = range(4)
SEALED: Final = (ended.c.envelope, ended.c.checkpoint, ended.c.checkpoint_progress)
NOTHING: Final = (null(),) * len(SEALED)


class Question(NamedTuple):
    """What is known against starting `run` of a task from a message; without a message, of its ends alone."""

    task_id: UUID
    run: int
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """Which of an owner's tasks are wanted: see `Archive.page`."""

    owner_id: str
    before: tuple[int, UUID] | None
    created_after: int | None
    created_before: int | None
    statuses: Collection[TaskStatus]
    actions: Collection[str]
    labels: Collection[str]


def known(connection: Connection, questions: Sequence[Question]) -> list[Known]:
    """Answer many questions in one statement, in their order.

    A mark stands above rows, and a row above a refusal or a doubt: the newest run's row, if it is of the run asked for
    or later.
    """
    ids = sorted({question.task_id for question in questions})
    messages = sorted({question.message_id for question in questions if question.message_id is not None})
    ends: dict[UUID, EndedTask] = {}
    marks: dict[UUID, Forgotten] = {}
    refusals: dict[tuple[UUID, str | None], Known] = {}
    for row in connection.execute(_everything(ids, messages)):
        if row.kind == ENDED:
            ends[row.task_id] = EndedTask(task_of(row.text), row.envelope, row.checkpoint, row.checkpoint_progress)
        elif row.kind == FORGOTTEN:
            marks[row.task_id] = Forgotten(row.text, moment(row.number))
        else:
            refusals[row.task_id, row.text] = Doubted() if row.kind == DOUBTED else Refused()

    def answer(question: Question) -> Known:
        if mark := marks.get(question.task_id):
            return mark
        end = ends.get(question.task_id)
        if end and end.task.run >= question.run:
            return end
        return refusals.get((question.task_id, question.message_id))

    return [answer(question) for question in questions]


def _everything(ids: list[UUID], messages: list[str]) -> Any:
    # `ended` comes first: it gives the columns their types, and PostgreSQL finds none for a NULL beside a NULL.
    columns = (ended.c.task_id, ended.c.run.label("number"), ended.c.document.label("text"), *SEALED)
    parts = [
        select(literal(ENDED).label("kind"), *columns).where(ended.c.task_id.in_(ids), ~has_later_run()),
        select(literal(FORGOTTEN), forgotten.c.task_id, forgotten.c.forgotten_at, forgotten.c.owner_id, *NOTHING).where(
            forgotten.c.task_id.in_(ids)
        ),
    ]
    if messages:
        kind = case((refused.c.in_doubt, literal(DOUBTED)), else_=literal(REFUSED))
        barred = select(kind, refused.c.task_id, refused.c.refused_at, refused.c.message_id, *NOTHING)
        parts.append(barred.where(refused.c.task_id.in_(ids), refused.c.message_id.in_(messages)))
    return union_all(*parts)


def page(connection: Connection, wanted: Listed, limit: int) -> list[Task]:
    """Return a page of ended tasks: the newest `created_at` first, then by falling id; of each task its newest run."""
    conditions = [
        ended.c.owner_id == wanted.owner_id,
        ~has_later_run(),
        ~select(forgotten.c.task_id).where(forgotten.c.task_id == ended.c.task_id).exists(),
    ]
    if wanted.before:
        created_at, task_id = wanted.before
        position = tuple_(literal(created_at, ended.c.created_at.type), literal(task_id, ended.c.task_id.type))
        conditions.append(tuple_(ended.c.created_at, ended.c.task_id) < position)
    if wanted.created_after is not None:
        conditions.append(ended.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(ended.c.created_at < wanted.created_before)
    if wanted.statuses:
        conditions.append(ended.c.status.in_([status.value for status in wanted.statuses]))
    if wanted.actions:
        conditions.append(ended.c.action.in_(wanted.actions))
    conditions.extend(carries(label) for label in wanted.labels)
    statement = (
        select(ended.c.document)
        .where(*conditions)
        .order_by(ended.c.created_at.desc(), ended.c.task_id.desc())
        .limit(limit)
    )
    return [task_of(document) for document in connection.scalars(statement)]


def has_later_run() -> ColumnElement[bool]:
    """Whether a later run of the same task has ended, too."""
    later = ended.alias()
    return select(later.c.run).where(later.c.task_id == ended.c.task_id, later.c.run > ended.c.run).exists()


def carries(label: str) -> ColumnElement[bool]:
    """Whether a task has this label."""
    # Not LIKE, in which `_` is a joker, and SQLite takes small letters for capitals.
    return func.replace(ended.c.labels, f" {label} ", "") != ended.c.labels


def read_back(row: Row) -> EndedTask:
    """Read the columns `endings.WINNER`."""
    return EndedTask(task_of(row["document"]), row["envelope"], row["checkpoint"], row["checkpoint_progress"])
