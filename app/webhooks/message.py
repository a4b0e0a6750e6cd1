"""Message: what a webhook tells, and under which id. Written once, and sent as these very bytes at every attempt."""

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final
from uuid import UUID

from pydantic import BaseModel

from app.domain.lifecycle import TaskStatus
from app.domain.task import StatusDocument, Timestamp


class WebhookType(StrEnum):
    """What has happened."""

    STARTED = "workload.started"
    COMPLETED = "workload.completed"
    FAILED = "workload.failed"
    CANCELLED = "workload.cancelled"
    TEST = "workload.test"


OF_END: Final = {
    TaskStatus.COMPLETED: WebhookType.COMPLETED,
    TaskStatus.FAILED: WebhookType.FAILED,
    TaskStatus.CANCELLED: WebhookType.CANCELLED,
}


class WebhookBody(BaseModel):
    """The body: three keys on top for simple receivers, and the whole event beside them. Absent values are left out."""

    task_id: UUID
    status: TaskStatus
    result_url: str | None = None
    """Signed: it works without a token until the result is removed."""
    type: WebhookType
    timestamp: Timestamp
    """When it happened, not when this was sent."""
    data: StatusDocument


class Letter(BaseModel):
    """All that an attempt needs, as it is kept, sealed."""

    url: str
    body: str
    request_id: str | None = None
    traceparent: str | None = None


def webhook_id(task_id: UUID, run: int, event: str) -> str:
    """Return the id of an event: the same at each attempt, another for each event of each run.

    Args:
        task_id: Whose event it is.
        run: Of which run.
        event: `started`, `completed` (any end), or `test`.
    """
    return f"msg_{sha256(f'{task_id}/{run}/{event}'.encode()).hexdigest()[:32]}"


def webhook_body(kind: WebhookType, document: StatusDocument, *, at: datetime, result_url: str | None = None) -> str:
    """Write a body.

    Args:
        kind: What has happened.
        document: The task as it was then.
        at: When.
        result_url: The signed link to its result, if it has one.
    """
    body = WebhookBody(
        task_id=document.task_id,
        status=document.status,
        result_url=result_url,
        type=kind,
        timestamp=at,
        data=document,
    )
    return body.model_dump_json(exclude_none=True)
