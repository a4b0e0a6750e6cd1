"""What a webhook says: the seed's keys on top, the standard's beside them, and nothing that is absent."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.domain.lifecycle import TaskStatus
from app.domain.task import ResultFile, StatusDocument, Task
from app.observability.tracing import child_of, traceparent_of
from app.webhooks.message import OF_END, WebhookType, webhook_body

MOMENT = datetime(2026, 11, 24, 20, 15, 30, 125_000, tzinfo=UTC)
TASK = Task(
    id=UUID(int=7), owner_id="0" * 32, action="noop", queue="bench", status=TaskStatus.COMPLETED, seq=5, run=1,
    attempt=1, max_attempts=5, progress=100, message="größe", labels=("a",), created_at=MOMENT, finished_at=MOMENT,
    expires_at=MOMENT,
    result=ResultFile(key="secret/key", size=1, content_type="text/csv", filename="r.csv", sha256="ab" * 32),
)  # fmt: skip
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_body_has_both_shapes() -> None:
    document = StatusDocument.of(TASK, public_url="https://x")
    text = webhook_body(WebhookType.COMPLETED, document, at=MOMENT, result_url="https://x/signed")
    body = json.loads(text)
    assert list(body) == ["task_id", "status", "result_url", "type", "timestamp", "data"]
    assert body["timestamp"] == "2026-11-24T20:15:30.125Z"
    assert (body["result_url"], body["data"]["result_url"]) == (
        "https://x/signed",
        f"https://x/v1/workload/{TASK.id}/result",
    )
    assert body["data"] == json.loads(document.model_dump_json(exclude_none=True))
    assert "secret/key" not in text
    assert "result_url" not in json.loads(webhook_body(WebhookType.COMPLETED, document, at=MOMENT))


def test_every_end_has_its_type() -> None:
    assert set(OF_END) == {status for status in TaskStatus if status.is_terminal}
    assert {kind.value.rpartition(".")[2].upper() for kind in OF_END.values()} == {status.value for status in OF_END}


@pytest.mark.parametrize(
    "sent",
    [[], [TRACE, TRACE], [""], ["00-" + "0" * 32 + TRACE[35:]], [TRACE.upper()], ["ff" + TRACE[2:]], [TRACE + "-x"],
     [TRACE.replace("00f067aa0ba902b7", "0" * 16)]],
)  # fmt: skip
def test_a_broken_trace_begins_anew(sent: list[str]) -> None:
    assert traceparent_of(sent) is None
    assert traceparent_of([child_of(None)]) is not None


def test_a_trace_goes_on_with_a_span_of_its_own() -> None:
    assert traceparent_of([TRACE]) == TRACE
    first, second = child_of(TRACE), child_of(TRACE)
    assert first[:36] == second[:36] == TRACE[:36]
    assert first[-3:] == "-01"
    assert len({TRACE, first, second}) == 3
