"""What the scripts reply: one small class for each outcome that a caller has to tell from the others."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from app.domain.task import Task

Held = Literal["HELD", "CANCEL", "LOST", "MISSING"]
Question = Literal["MISSING", "CREATED", "EXPIRED", "MARKED"]


class Created(NamedTuple):
    """The task was made, or (`by_other`) is being made by a parallel request with the same key. Publish and confirm."""

    epoch: bytes
    by_other: bool = False
    fingerprint: str | None = None
    """Of the body that it was made for; with `by_other`, that of the other request."""


@dataclass(frozen=True, slots=True)
class Exists:
    """The task is there already."""

    task: Task


@dataclass(frozen=True, slots=True)
class Young:
    """Redis began anew a moment ago, and a living worker may bring the task back: come again after `wait`."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Deleted:
    """The task was deleted."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The task is the worker's, for one attempt, under a token above every earlier one of this task."""

    task: Task
    attempt: int
    token: int
    charged: int
    """How many attempts the task has been charged with so far."""
    progress: int
    checkpoint: bytes | None
    """Sealed."""
    cancel_requested: bool
    """It is only to be ended."""
    rebuilt: bool
    """Redis had forgotten it: ask the archive once more before the work begins."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The task is the worker's, but only to be ended: its attempts are used up."""

    task: Task
    checkpoint: bytes | None
    checkpoint_progress: int


@dataclass(frozen=True, slots=True)
class Park:
    """It is not its time: publish the copy `copy_id` for later, promote it, acknowledge the message in hand."""

    wait: timedelta
    copy_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Redis began anew a moment ago: publish the same message for later, and acknowledge the one in hand."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the archive what stands against this message, and claim again with this answer in hand.

    MARKED is a DELETE under way, or one that has died: if nothing stands against the message, it waits.
    """

    what: Question
    epoch: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """The message is of no use any more: acknowledge it."""

    reason: str


Claim = Claimed | Exhausted | Park | Wait | Ask | Drop


@dataclass(frozen=True, slots=True)
class Beat:
    """What a beat brings back."""

    held: Held
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Released:
    """The task is PENDING again: publish the copy with these figures, promote it, acknowledge the message in hand."""

    attempt: int
    charged: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The task is PENDING and asked to stop: whoever asked writes its row, and settles."""

    task: Task
    envelope: bytes
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class Guarded:
    """A living task whose guard is the message that was asked about."""

    task: Task
    envelope: bytes
    checkpoint: bytes | None
    checkpoint_progress: int
    busy: timedelta
    """For how long somebody may be at it still: its submission, or the worker that holds its lease."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """A living task needs a new message: publish it after `wait`, with these figures, and promote it."""

    run: int
    wait: timedelta
    attempt: int
    charged: int
    envelope: bytes
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class AskRow:
    """A lease has expired: ask the archive for an end of this run, and come again with this answer in hand."""

    run: int
    epoch: bytes


@dataclass(frozen=True, slots=True)
class Symptoms:
    """What housekeeping looks at. Times are ms since the epoch."""

    task_id: UUID
    status: str
    queue: str
    lease_until: int | None
    not_before: int
    redrives: int
    finished: bool
    action: str
    owner: str
    """Its digest."""
