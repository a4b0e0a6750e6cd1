"""Times and documents: the one form in which a task is shown."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from app.domain.lifecycle import TaskStatus
from app.domain.problem import Problem
from app.domain.task import ResultFile, StatusDocument, Task, document_of, rfc3339
from app.domain.webhook import WebhookState, WebhookSummary

TASK_ID = UUID("550e8400-e29b-41d4-a716-446655440000")
MOMENT = datetime(2026, 11, 24, 20, 15, 30, 125_999, tzinfo=UTC)
FILE = ResultFile(key="secret/key", size=3, content_type="text/plain", filename="a.txt", sha256="00")


def task(status: TaskStatus, **changes: object) -> Task:
    """Return a task in this status."""
    values: dict[str, object] = {
        "id": TASK_ID, "owner_id": "the-owner", "action": "noop", "queue": "bench", "status": status, "seq": 7,
        "run": 1, "attempt": 1, "max_attempts": 5, "progress": 3, "message": None, "labels": ("a",),
        "created_at": MOMENT, "fingerprint": "the-fingerprint",
    } | changes  # fmt: skip
    return Task(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MOMENT, "2026-11-24T20:15:30.125Z"),
        (MOMENT.replace(microsecond=0), "2026-11-24T20:15:30.000Z"),
        (MOMENT.replace(microsecond=999), "2026-11-24T20:15:30.000Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=5, minutes=45))), "2026-11-24T20:15:30.125Z"),
        (datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2025-12-31T23:30:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds_and_z(moment: datetime, text: str) -> None:
    assert rfc3339(moment) == text


def shown(one: Task, webhook: WebhookSummary | None = None) -> dict[str, object]:
    """Return the document as JSON values, without what is absent."""
    return document_of(one, public_url="https://example.org", webhook=webhook)


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("is_full", [True, False])
def test_a_document_is_what_its_schema_says(status: TaskStatus, is_full: bool) -> None:
    error = Problem(type="urn:x", title="X", status=500, detail="It broke.")
    moments = dict.fromkeys(("started_at", "finished_at", "expires_at", "next_attempt_at"), MOMENT)
    full = {**moments, "message": 'half "way"', "result": FILE, "error": error, "cancel_requested": True}
    one = task(status, **(full | {"has_callback": True} if is_full else {}))
    for webhook in (None, WebhookSummary(WebhookState.DUE, 2, MOMENT)):
        document = shown(one, webhook)
        assert StatusDocument.model_validate(document).model_dump(mode="json", exclude_none=True) == document
        assert list(document) == [name for name in StatusDocument.model_fields if name in document]


def test_only_a_pending_task_waits_in_a_queue() -> None:
    for status in TaskStatus:
        assert ("queue" in shown(task(status))) == (status is TaskStatus.PENDING)


def test_only_a_completed_task_shows_a_file() -> None:
    for status in TaskStatus:
        document = shown(task(status, result=FILE, expires_at=MOMENT))
        has_file = status is TaskStatus.COMPLETED
        for name in ("result", "result_url", "expires_at"):
            assert (name in document) == has_file
        assert ("result" in document["links"]) == has_file  # type: ignore[operator]


def test_nothing_of_the_inside_is_shown() -> None:
    text = str(shown(task(TaskStatus.COMPLETED, result=FILE)))
    for inside in ("the-owner", "the-fingerprint", "secret/key"):
        assert inside not in text
