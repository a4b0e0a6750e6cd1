"""How far a task's webhook has come, as its status document shows it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class WebhookState(StrEnum):
    """What becomes of a webhook."""

    WAITING = "waiting"
    """Its event has not happened yet."""
    DUE = "due"
    """It is being sent, or will be at `next_attempt_at`."""
    DELIVERED = "delivered"
    """Its receiver has taken it: 2xx."""
    STOPPED = "stopped"
    """Its receiver wants it no more: 410."""
    FAILED = "failed"
    """Its attempts are used up; it can be sent again by hand."""


@dataclass(frozen=True, slots=True)
class WebhookSummary:
    """A webhook in short."""

    state: WebhookState
    attempts: int = 0
    next_attempt_at: datetime | None = None
