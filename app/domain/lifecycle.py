"""The law of a task: which event leads from which status to which.

`created` stands before PENDING; it promises nothing to anybody and is seen by nobody. Terminal is final, but for an
explicit retry, which starts a new run. What is not in the table does not happen; the scripts in `app/store/scripts`
enforce the same on Redis.
"""

from enum import StrEnum


class TaskStatus(StrEnum):
    """What a caller sees of a task's state."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self in TERMINAL


TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class Event(StrEnum):
    """What can happen to a task that callers can see."""

    CLAIMED = "claimed"
    RELEASED = "released"
    REAPED = "reaped"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"


TABLE: dict[tuple[TaskStatus, Event], TaskStatus] = {
    (TaskStatus.PENDING, Event.CLAIMED): TaskStatus.PROCESSING,
    (TaskStatus.PROCESSING, Event.CLAIMED): TaskStatus.PROCESSING,  # a take-over: the lease of the attempt had expired
    (TaskStatus.PROCESSING, Event.RELEASED): TaskStatus.PENDING,
    (TaskStatus.PROCESSING, Event.REAPED): TaskStatus.PENDING,
    (TaskStatus.PENDING, Event.CANCELLED): TaskStatus.CANCELLED,
    (TaskStatus.PROCESSING, Event.CANCELLED): TaskStatus.CANCELLED,
    (TaskStatus.FAILED, Event.RETRIED): TaskStatus.PENDING,
    (TaskStatus.CANCELLED, Event.RETRIED): TaskStatus.PENDING,
    (TaskStatus.PROCESSING, Event.SUCCEEDED): TaskStatus.COMPLETED,
    (TaskStatus.PROCESSING, Event.FAILED): TaskStatus.FAILED,
}


def after(status: TaskStatus, event: Event) -> TaskStatus | None:
    """Return the status that `event` leads to, or None where the law does not allow it."""
    return TABLE.get((status, event))
