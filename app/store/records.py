"""A task as fields of its hash, and back. What scripts return and publish is read here and nowhere else."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final
from uuid import UUID

from app.domain.envelope import Envelope
from app.domain.lifecycle import TaskStatus
from app.domain.log_line import LogLine
from app.domain.moments import milliseconds, moment
from app.domain.problem import Problem
from app.domain.task import ResultFile, Task
from app.store.batching import Argument
from app.store.keys import PUBLIC_FIELDS, owner_id, task_of_key

Values = Sequence[bytes | None]
"""The values of PUBLIC_FIELDS, in order."""
REMEMBERED: Final = 256
"""Of so many states of tasks it is remembered how they read: a task that is polled has mostly not changed."""

STATUS = PUBLIC_FIELDS.index("status")
ENDED_AS = PUBLIC_FIELDS.index("ended_as")
INVISIBLE = frozenset({b"aborted", b"forgotten"})


def visible_task(task_id: UUID, values: Values) -> Task | None:
    """Read a hash; None where there is nothing that a caller may see. A task about to run again shows its old end."""
    status = values[STATUS]
    if status is None or status in INVISIBLE or (status == b"created" and values[ENDED_AS] is None):
        return None
    return _remembered_task(task_id, tuple(values))


@lru_cache(REMEMBERED)
def _remembered_task(task_id: UUID, values: tuple[bytes | None, ...]) -> Task:
    return task_from(task_id, values)


def task_from(task_id: UUID, values: Values) -> Task:
    """Read a hash that is there; one that is only `created` reads as PENDING."""
    fields: dict[str, Any] = dict(zip(PUBLIC_FIELDS, values, strict=True))
    status, labels, result, error = (fields[name] for name in ("status", "labels", "result", "error"))
    if status == b"created":
        status = fields["ended_as"] or b"PENDING"
    return Task(
        id=task_id,
        owner_id=fields["owner"].decode(),
        action=fields["action"].decode(),
        queue=fields["queue"].decode(),
        status=TaskStatus(status.decode()),
        seq=int(fields["seq"]),
        run=int(fields["run"]),
        attempt=int(fields["attempt"]),
        max_attempts=int(fields["max_attempts"]),
        progress=int(fields["progress"]),
        message=_text(fields["message"]),
        labels=tuple(json.loads(labels)) if labels else (),
        created_at=moment(int(fields["created_at"])),
        started_at=_moment(fields["started_at"]),
        finished_at=_moment(fields["finished_at"]),
        expires_at=_moment(fields["expires_at"]),
        result=ResultFile(**json.loads(result)) if result else None,
        error=Problem.model_validate_json(error) if error else None,
        fingerprint=_text(fields["fingerprint"]),
        cancel_requested=fields["cancel"] == b"1",
        next_attempt_at=_moment(fields["not_before"]),
        has_callback=fields["callback"] is not None,
    )


class Published:
    """What scripts publish about a task, read as far as it is asked for.

    A document is the hash's key and its public fields (`change` in prelude.lua); log lines are the hash's key, the
    first line's number, and each line's time, level and message (log.lua).
    """

    def __init__(self, message: bytes) -> None:
        key, *self._rest = json.loads(message)
        self.task_id = task_of_key(key)
        self.is_log = len(self._rest) > 1

    def task(self) -> Task | None:
        """Return the task; None if callers may not see it."""
        values = [value.encode() if value else None for value in self._rest[0]]  # a nil comes as false
        return visible_task(self.task_id, values)

    def lines(self) -> list[LogLine]:
        """Return the log lines."""
        first, lines = self._rest
        return [
            LogLine(self.task_id, number, moment(time), level, message)
            for number, (time, level, message) in enumerate(lines, first)
        ]


def order_fields(envelope: Envelope, sealed: bytes, checkpoint: bytes | None = None) -> list[Argument]:
    """Return the fields that a message gives a hash; `sealed` and `checkpoint` are the sealed forms."""
    return flat(
        {
            "owner": owner_id(envelope.owner),
            "action": envelope.action,
            "queue": envelope.queue,
            "run": envelope.run,
            "attempt": envelope.attempt,
            "charged": envelope.charged,
            "max_attempts": envelope.max_attempts,
            "progress": envelope.checkpoint_progress,
            "labels": json.dumps(envelope.labels) if envelope.labels else None,
            "created_at": envelope.created_at,
            "not_before": envelope.not_before or None,
            "checkpoint": checkpoint,
            "checkpoint_progress": envelope.checkpoint_progress or None,
            "request_id": envelope.request_id,
            "fingerprint": envelope.fingerprint,
            "callback": "1" if envelope.callback else None,
            "envelope": sealed,
        }
    )


def end_fields(task: Task) -> dict[str, Argument | None]:
    """Return the fields of an ended task, as its row has it."""
    return {
        "status": task.status,
        "message": task.message,
        "started_at": milliseconds(task.started_at) if task.started_at else None,
        "finished_at": milliseconds(task.finished_at) if task.finished_at else None,
        "expires_at": milliseconds(task.expires_at) if task.expires_at else None,
        "result": result_json(task.result) or None,
        "error": error_json(task.error) or None,
    }


def row_fields(task: Task) -> list[Argument]:
    """Return all fields of a hash that shows an ended task: what its row has, and nothing else."""
    shown: dict[str, Argument | None] = {
        "owner": task.owner_id,
        "action": task.action,
        "queue": task.queue,
        "run": task.run,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "progress": task.progress,
        "labels": json.dumps(task.labels) if task.labels else None,
        "created_at": milliseconds(task.created_at),
        "fingerprint": task.fingerprint,
        "callback": "1" if task.has_callback else None,
    }
    return flat(shown | end_fields(task))


def pending_task(envelope: Envelope, *, seq: int) -> Task:
    """Return the task that a message will rebuild, as it looks until then."""
    return Task(
        id=envelope.task_id,
        owner_id=owner_id(envelope.owner),
        action=envelope.action,
        queue=envelope.queue,
        status=TaskStatus.PENDING,
        seq=seq,
        run=envelope.run,
        attempt=envelope.attempt,
        max_attempts=envelope.max_attempts,
        progress=envelope.checkpoint_progress,
        message=None,
        labels=envelope.labels,
        created_at=moment(envelope.created_at),
        fingerprint=envelope.fingerprint,
        next_attempt_at=moment(envelope.not_before) if envelope.not_before else None,
        has_callback=envelope.callback is not None,
    )


def flat(fields: dict[str, Argument | None]) -> list[Argument]:
    """Return fields as name, value, …, without those that are None."""
    given: dict[str, Argument] = {name: value for name, value in fields.items() if value is not None}
    return list(chain.from_iterable(given.items()))


def result_json(result: ResultFile | None) -> str:
    """Write a result file's description; an empty string for none."""
    if result is None:
        return ""
    names = ("key", "size", "content_type", "filename", "sha256")
    return json.dumps({name: getattr(result, name) for name in names})


def error_json(error: Problem | None) -> str:
    """Write a task's error; an empty string for none."""
    return error.model_dump_json(exclude_none=True) if error else ""


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _moment(value: bytes | None) -> datetime | None:
    return moment(int(value)) if value else None
