"""An ended task, and how a row is made of it and read again.

A row outlives the version of Longhaul that wrote it: what is missing in an old document gets its default, what a newer
one has on top is passed over.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, get_type_hints
from uuid import UUID

from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds, moment
from app.domain.problem import Problem
from app.domain.task import ResultFile, Task

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """An event to be told. `letter` is sealed; `task_id` is None for a test."""

    id: str
    owner_id: str
    task_id: UUID | None
    run: int
    type: str
    letter: bytes


@dataclass(frozen=True, slots=True)
class EndedTask:
    """How a run ended, with what a retry needs to rebuild the task.

    `envelope` and `checkpoint` are sealed, and kept for FAILED and CANCELLED only. Times are kept to the millisecond.
    """

    task: Task
    envelope: bytes | None = None
    checkpoint: bytes | None = None
    checkpoint_progress: int = 0
    webhook: DueWebhook | None = None
    """Written with the row, if it wins; never read back with it."""

    def __post_init__(self) -> None:
        """Refuse what has not ended, and a file that nobody would ever remove.

        Raises:
            ValueError: The status is not terminal, there is no `finished_at`, or a result without `expires_at`.
        """
        if not self.task.status.is_terminal or self.task.finished_at is None:
            raise ValueError(f"a task that is {self.task.status} has no end to archive")
        if self.task.result and not self.task.expires_at:
            raise ValueError("a result file needs a time at which it is removed")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The task was deleted by its owner: no run of it starts, and none gets a row."""

    owner_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """The submission that sent this message was refused: it starts nothing."""


@dataclass(frozen=True, slots=True)
class Doubted:
    """The submission that sent this message is being refused, or will turn out to be alive: it must wait."""


Known = EndedTask | Forgotten | Refused | Doubted | None
"""What SQL says against starting a run; None: nothing."""


class Bar(StrEnum):
    """Why a message must not start its task, in a word for the log."""

    ENDED = "it has ended"
    DELETED = "it was deleted"
    REFUSED = "refused to its caller"
    DOUBTED = "about to be refused to its caller, or not"


def row_of(ended: EndedTask) -> Row:
    """Return the columns of an ended task's row."""
    task = ended.task
    assert task.finished_at is not None
    completed = task.status is TaskStatus.COMPLETED
    file = task.result
    return {
        "task_id": task.id,
        "run": task.run,
        "owner_id": task.owner_id,
        "status": task.status.value,
        "action": task.action,
        "labels": f" {' '.join(task.labels)} " if task.labels else "",
        "created_at": milliseconds(task.created_at),
        "finished_at": milliseconds(task.finished_at),
        "result_key": file and file.key,
        "result_expires_at": milliseconds(task.expires_at) if file and task.expires_at else None,
        "document": _document(task),
        "envelope": None if completed else ended.envelope,
        "checkpoint": None if completed else ended.checkpoint,
        "checkpoint_progress": ended.checkpoint_progress,
    }


def task_of(document: str) -> Task:
    """Read a document: what it does not have gets its default, what Task does not have is passed over."""
    found: dict[str, Any] = json.loads(document)
    return Task(
        **{
            name: value if value is None or name not in READERS else READERS[name](value)
            for name, value in found.items()
            if name in Task._fields
        }
    )


def _document(task: Task) -> str:
    told: dict[str, Any] = {}
    for name, value in zip(Task._fields, task, strict=True):
        if name not in DEFAULTS or value != DEFAULTS[name]:
            write = WRITERS.get(type(value))
            told[name] = write(value) if write else value
    # ASCII with escapes: PostgreSQL's text takes neither U+0000 nor half a surrogate pair, a message may hold both.
    return json.dumps(told, ensure_ascii=True)


def _result_file(found: dict[str, Any]) -> ResultFile:
    return ResultFile(**{name: found[name] for name in RESULT_FIELDS})


RESULT_FIELDS: Final = tuple(field.name for field in fields(ResultFile))
DEFAULTS: Final = Task._field_defaults
"""What is not written: the members of Task that have a default, and what it is."""

WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    datetime: milliseconds,
    UUID: str,
    ResultFile: lambda file: {name: getattr(file, name) for name in RESULT_FIELDS},
    Problem: lambda error: error.model_dump(exclude_none=True),
}
"""How what JSON cannot hold is written. Numbers, texts (a status is one) and lists of them stay as they are."""

READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "id": UUID,
    "status": TaskStatus,
    "labels": tuple,
    "result": _result_file,
    "error": Problem.model_validate,
    **{name: moment for name, kind in get_type_hints(Task).items() if kind in (datetime, datetime | None)},
}
"""How what JSON cannot hold is read again. A new time is known by its type."""
