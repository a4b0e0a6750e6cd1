"""The words that an engine and a job's process exchange: one JSON object a line, over a socket pair.

The engine sends the order, and an answer to each `commit` and `save`; the child sends reports, and its end.
"""

import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from app.domain.errors import LeaseLost, LonghaulError, StoreUnavailable
from app.domain.log_line import LogLevel, LogRecord
from app.domain.task import ResultFile
from app.settings import Dataset
from workers.job import JobContext
from workers.outcome import AttemptFailed, Result

MAX_LINE_BYTES: Final = 1024 * 1024
"""Of what a child says. A checkpoint has 64 KiB; escaped, and with the rest of the line, it stays well below this."""

PROGRESS: Final = "progress"
COMMIT: Final = "commit"
SAVE: Final = "save"
LOG: Final = "log"
FINISHED: Final = "finished"
FAILED: Final = "failed"
LEASE_LOST: Final = "lease-lost"

_ERRORS: Final[dict[str, type[Exception]]] = {
    error.__name__: error for error in (LeaseLost, StoreUnavailable, ValueError, OSError)
}
ANSWERED_ERRORS: Final = tuple(_ERRORS.values())
"""What a commit or a save may raise: it is raised again in the handler."""


def line(**fields: Any) -> bytes:
    """Write one message."""
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def order(action: str, params: dict[str, Any], context: JobContext) -> bytes:
    """Write the first message: what the child is to do."""
    return line(
        action=action,
        params=params,
        task_id=str(context.task_id),
        attempt=context.attempt,
        token=context.token,
        checkpoint=context.checkpoint,
        datasets={dataset_id: dataset.model_dump() for dataset_id, dataset in context.datasets.items()},
        workspace=os.fspath(context.workspace),
    )


def context_of(order: dict[str, Any]) -> JobContext:
    """Read the context back out of an order."""
    return JobContext(
        task_id=UUID(order["task_id"]),
        attempt=order["attempt"],
        token=order["token"],
        checkpoint=order["checkpoint"],
        datasets={int(dataset_id): Dataset(**fields) for dataset_id, fields in order["datasets"].items()},
        workspace=Path(order["workspace"]),
    )


def result_fields(result: Result) -> dict[str, Any] | None:
    """Write a Result; None for an empty one."""
    return asdict(result.file) if result.file else None


def result_from(fields: dict[str, Any] | None) -> Result:
    """Read a Result."""
    return Result(ResultFile(**fields)) if fields else Result()


def log_fields(records: list[LogRecord]) -> list[tuple[int, str, str]]:
    """Write lines of a log."""
    return [(record.time, record.level, record.message) for record in records]


def log_from(fields: list[tuple[int, str, str]]) -> list[LogRecord]:
    """Read lines of a log."""
    return [LogRecord(time, LogLevel(level), message) for time, level, message in fields]


def failure_fields(error: LonghaulError) -> dict[str, Any]:
    """Write how an attempt has failed."""
    if not isinstance(error, AttemptFailed):
        return {"detail": error.detail}
    wait = error.wait.total_seconds() if error.wait is not None else None
    return {"detail": error.detail, "where": error.where, "fatal": error.fatal, "wait": wait}


def failure_from(fields: dict[str, Any]) -> AttemptFailed:
    """Read how an attempt has failed."""
    wait = fields.get("wait")
    return AttemptFailed(
        fields["detail"],
        where=fields.get("where", ""),
        fatal=fields.get("fatal", False),
        wait=timedelta(seconds=wait) if wait is not None else None,
    )


def error_fields(error: Exception) -> dict[str, str]:
    """Write one of ANSWERED_ERRORS."""
    kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
    return {"error": kind, "detail": str(error)}


def error_from(fields: dict[str, str]) -> Exception:
    """Read an error."""
    return _ERRORS[fields["error"]](fields["detail"])
