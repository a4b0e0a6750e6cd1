"""A task, and the status document: the one JSON shape in which every door shows it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import sha256
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from typing_extensions import TypedDict

from app.domain.lifecycle import TaskStatus
from app.domain.problem import Problem
from app.domain.webhook import WebhookState, WebhookSummary


def rfc3339(moment: datetime) -> str:
    """Write a moment as RFC 3339 UTC with milliseconds and `Z`: the only form in which we show time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Timestamp = Annotated[datetime, PlainSerializer(rfc3339, return_type=str), Field(examples=["2026-11-24T20:15:30.125Z"])]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose task it is: the token's issuer and subject, together."""

    issuer: str
    subject: str

    @property
    def digest(self) -> str:
        """By which keys and rows name an owner: 32 hexadecimal digits."""
        return _digest(self.issuer, self.subject)


@lru_cache(1024)
def _digest(issuer: str, subject: str) -> str:
    return sha256(f"{issuer}\0{subject}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result object: where it is kept (`key`, never shown to a caller) and what it is."""

    key: str
    size: int
    content_type: str
    filename: str
    sha256: str


@lru_cache(1024)
def id_text(task_id: UUID) -> str:
    """Return a task's id as it is written everywhere; each step of a task wants it, and `str` writes it anew."""
    return str(task_id)


class Task(NamedTuple):
    """What the store knows of a task, less what only a worker needs (envelope, checkpoint, lease).

    `owner_id` is the digest that `app/store/keys.py` makes of the Owner; the token's claims are not kept in the clear.

    A tuple, since several are made for each job: a frozen dataclass of so many members takes four times as long.
    """

    id: UUID
    owner_id: str
    action: str
    queue: str
    status: TaskStatus
    seq: int
    run: int
    attempt: int
    max_attempts: int
    progress: int
    message: str | None
    labels: tuple[str, ...]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    result: ResultFile | None = None
    error: Problem | None = None
    fingerprint: str | None = None
    cancel_requested: bool = False
    next_attempt_at: datetime | None = None
    has_callback: bool = False
    """Whether its owner wants webhooks; where they go is sealed."""


class WebhookDescription(BaseModel):
    """How far the webhook has come; it changes without the task's `seq`."""

    state: WebhookState
    attempts: int = Field(ge=0)
    next_attempt_at: Timestamp | None = None


class ResultDescription(BaseModel):
    """The result file, as a caller sees it."""

    size: int = Field(ge=0, description="Bytes.")
    content_type: str
    filename: str
    sha256: str = Field(description="Hexadecimal.")


class QueueDescription(BaseModel):
    """Where the task waits."""

    name: str


class Link(TypedDict):
    """A place to go on from here: an absolute path."""

    href: str


class StatusDocument(BaseModel):
    """A task as its owner sees it, the same everywhere. Absent values are left out."""

    model_config = ConfigDict(frozen=True)

    task_id: UUID
    action: str
    status: TaskStatus
    progress: int = Field(ge=0, le=100, description="Percent; never falls within an attempt.")
    seq: int = Field(description="Rises with every change of the task.")
    attempt: int = Field(ge=0)
    max_attempts: int = Field(ge=1)
    created_at: Timestamp
    labels: list[str]
    message: str | None = None
    started_at: Timestamp | None = Field(default=None, description="When the first attempt began.")
    finished_at: Timestamp | None = None
    cancel_requested: bool | None = Field(default=None, description="The owner has asked it to stop.")
    queue: QueueDescription | None = Field(default=None, description="While PENDING.")
    next_attempt_at: Timestamp | None = Field(default=None, description="While PENDING: not before this.")
    result_url: str | None = Field(default=None, description="Absolute; only when COMPLETED with a file.")
    result: ResultDescription | None = None
    expires_at: Timestamp | None = Field(default=None, description="When the result is removed.")
    error: Problem | None = Field(default=None, description="Only when FAILED or CANCELLED.")
    webhook: WebhookDescription | None = Field(default=None, description="With a callback_url.")
    links: dict[str, Link]

    @classmethod
    def of(cls, task: Task, *, public_url: str) -> "StatusDocument":
        """Return the document of a task, as `document_of` writes it."""
        return cls.model_validate(document_of(task, public_url=public_url))


def document_of(task: Task, *, public_url: str, webhook: WebhookSummary | None = None) -> dict[str, Any]:
    """Return a task's status document as JSON values; each answer has one, so no model is made for it first.

    Args:
        task: What the store or the archive knows.
        public_url: The service's address as callers reach it, without a trailing slash.
        webhook: How far its webhook has come, if that was asked.
    """
    task_id, status = id_text(task.id), task.status
    path = f"/v1/workload/{task_id}"
    is_pending = status is TaskStatus.PENDING
    file = task.result if status is TaskStatus.COMPLETED else None
    links = {"self": {"href": status_path(task_id)}}
    links |= {name: {"href": f"{path}/{name}"} for name in _places(status, has_file=file is not None)}
    document: dict[str, Any] = {
        "task_id": task_id,
        "action": task.action,
        "status": str(status),
        "progress": task.progress,
        "seq": task.seq,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "created_at": rfc3339(task.created_at),
        "labels": list(task.labels),
    }
    if task.message is not None:
        document["message"] = task.message
    if task.started_at:
        document["started_at"] = rfc3339(task.started_at)
    if task.finished_at:
        document["finished_at"] = rfc3339(task.finished_at)
    if task.cancel_requested:
        document["cancel_requested"] = True
    if is_pending:
        document["queue"] = {"name": task.queue}
        if task.next_attempt_at:
            document["next_attempt_at"] = rfc3339(task.next_attempt_at)
    if file:
        document |= _file_members(file, task.expires_at, url=f"{public_url}{path}/result")
    if task.error:
        document["error"] = task.error.model_dump(mode="json", exclude_none=True)
    if task.has_callback:
        document["webhook"] = _webhook(task, webhook)
    document["links"] = links
    return document


def _file_members(file: ResultFile, expires_at: datetime | None, *, url: str) -> dict[str, Any]:
    shown = {"size": file.size, "content_type": file.content_type, "filename": file.filename, "sha256": file.sha256}
    members = {"result_url": url, "result": shown}
    return members | ({"expires_at": rfc3339(expires_at)} if expires_at else {})


@cache
def _places(status: TaskStatus, *, has_file: bool) -> tuple[str, ...]:
    """Return where one can go on from a task, below its own path."""
    found = ["events", "logs"]
    if not status.is_terminal or status is TaskStatus.CANCELLED:
        found.append("cancel")
    if status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        found.append("retry")
    if has_file:
        found.append("result")
    return tuple(found)


def _webhook(task: Task, known: WebhookSummary | None) -> dict[str, Any]:
    summary = known or WebhookSummary(WebhookState.DUE if task.status.is_terminal else WebhookState.WAITING)
    shown = {"state": str(summary.state), "attempts": summary.attempts}
    return shown | ({"next_attempt_at": rfc3339(summary.next_attempt_at)} if summary.next_attempt_at else {})


def status_path(task_id: UUID | str) -> str:
    """Return the path at which a task's status is read."""
    return f"/v1/workload/status/{task_id if isinstance(task_id, str) else id_text(task_id)}"
