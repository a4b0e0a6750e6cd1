"""The row of the tests' task, as the archive has it."""

from typing import Any

from app.domain.lifecycle import TaskStatus
from app.domain.moments import moment
from app.domain.problem import Problem
from app.domain.task import Task
from app.store.keys import owner_id
from tests.store.cast import OWNER
from tests.store.stage import BEGINNING, TASK_ID


def ended_task(**changes: Any) -> Task:
    """Return a FAILED run 1; `changes` go to the Task."""
    values: dict[str, Any] = {
        "id": TASK_ID,
        "owner_id": owner_id(OWNER),
        "action": "noop",
        "queue": "bench",
        "status": TaskStatus.FAILED,
        "seq": BEGINNING + 16,
        "run": 1,
        "attempt": 1,
        "max_attempts": 2,
        "progress": 40,
        "message": "½ done",
        "labels": (),
        "created_at": moment(BEGINNING),
        "finished_at": moment(BEGINNING + 1_000),
        "error": Problem(type="/problems/handler-error", title="Handler error", detail="Größe \x00 ☂"),
    }
    return Task(**values | changes)
