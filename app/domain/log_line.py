"""A line that a handler has written for whoever follows its task."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class LogLevel(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogRecord:
    """What a handler says, before it has a place in its task's log."""

    time: int
    """Milliseconds since the epoch, on the worker's clock."""
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a task's log."""

    task_id: UUID
    line: int
    """Counts from 1, over all attempts; the oldest lines of a long log are gone."""
    time: datetime
    level: str
    message: str
