"""Envelope: what a message carries. It alone is enough to rebuild its task."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app.domain.task import Owner


class Callback(BaseModel):
    """Where a task's webhooks go, and which are wanted (`started`, `completed`)."""

    model_config = ConfigDict(frozen=True)

    url: str
    events: tuple[str, ...]


class Envelope(BaseModel):
    """The whole of a task's order, sealed before it leaves the process.

    Times are milliseconds since the epoch, on Redis' clock. `message_id` names this very message: of all copies, only
    the one that the task's hash names as its guard may start the task.
    """

    model_config = ConfigDict(frozen=True)

    task_id: UUID
    run: int = 1
    message_id: str
    action: str
    queue: str
    owner: Owner
    params: dict[str, Any]
    labels: tuple[str, ...] = ()
    max_attempts: int
    timeout_seconds: float | None = None
    created_at: int
    not_before: int = 0
    attempt: int = 0
    charged: int = 0
    checkpoint: Any = None
    checkpoint_progress: int = 0
    request_id: str | None = None
    traceparent: str | None = None
    fingerprint: str | None = None
    callback: Callback | None = None

    def succeeded_by(self, message_id: str, **changes: Any) -> "Envelope":
        """Return the same order under the id of another message, with what has changed meanwhile."""
        return self.model_copy(update={"message_id": message_id, **changes})
