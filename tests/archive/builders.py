"""Ended tasks as tests need them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from app.archive.archive import EndedTask
from app.domain.lifecycle import TaskStatus
from app.domain.problem import Problem
from app.domain.task import ResultFile, Task

OWNER = "0" * 32
CREATED = datetime(2026, 11, 24, 20, 15, 30, 125_000, tzinfo=UTC)


def ended_task(task_id: UUID | None = None, *, envelope: bytes | None = None, **changes: Any) -> EndedTask:
    """Return a COMPLETED task without a file; `changes` go to the Task."""
    values: dict[str, Any] = {
        "id": task_id or uuid4(),
        "owner_id": OWNER,
        "action": "noop",
        "queue": "bench",
        "status": TaskStatus.COMPLETED,
        "seq": 7,
        "run": 1,
        "attempt": 1,
        "max_attempts": 5,
        "progress": 100,
        "message": None,
        "labels": (),
        "created_at": CREATED,
        "finished_at": CREATED + timedelta(minutes=1),
    }
    return EndedTask(Task(**values | changes), envelope=envelope)


def failed_task(task_id: UUID | None = None, **changes: Any) -> EndedTask:
    """Return a FAILED task with all that a retry needs."""
    error = Problem(type="/problems/handler-error", title="Handler error", detail="It broke.")
    values: dict[str, Any] = {"status": TaskStatus.FAILED, "progress": 40, "error": error}
    failed = ended_task(task_id, **values | changes)
    return EndedTask(failed.task, envelope=b"sealed order", checkpoint=b"sealed state", checkpoint_progress=40)


def result_file(key: str = "1/2") -> ResultFile:
    """Return the description of a result file."""
    return ResultFile(key=key, size=3, content_type="text/csv", filename="report.csv", sha256="ab" * 32)
