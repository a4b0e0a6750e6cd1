"""The status document: which fields it has, when, and in which form; and that others do not see it."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.problems import problem_of
from tests.api.staging import FAILURE, Staging
from tests.support.service import Service

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ALWAYS = {
    "task_id", "action", "status", "progress", "seq", "attempt", "max_attempts", "created_at", "labels", "links"
}  # fmt: skip


def nulls(value: Any) -> Iterator[Any]:
    """Yield every null inside of a JSON value."""
    match value:
        case None:
            yield value
        case dict():
            for inner in value.values():
                yield from nulls(inner)
        case list():
            for inner in value:
                yield from nulls(inner)


def checked(answer: httpx.Response, extra: set[str]) -> dict[str, Any]:
    """Return a document, after checking what holds in every state; `extra` are the fields of this one."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document: dict[str, Any] = answer.json()
    assert document.keys() == ALWAYS | extra
    assert list(nulls(document)) == []
    for name in document.keys() & {"created_at", "started_at", "finished_at", "expires_at"}:
        assert TIME.fullmatch(document[name]), document[name]
    assert document["links"]["self"]["href"] == f"/v1/workload/status/{document['task_id']}"
    assert answer.headers["etag"] == f'W/"{document["seq"]}"'
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization, Prefer"
    ended = document["status"] in ("COMPLETED", "FAILED", "CANCELLED")
    assert answer.headers.get("retry-after") == (None if ended else "5")
    return document


async def test_a_pending_task_says_where_it_waits(alice: httpx.AsyncClient, staging: Staging) -> None:
    answer = await alice.get(f"/v1/workload/status/{await staging.pending(labels=('a', 'b'))}")
    document = checked(answer, {"queue"})
    assert (document["status"], document["progress"], document["attempt"]) == ("PENDING", 0, 0)
    assert document["queue"] == {"name": "bench"}
    assert document["labels"] == ["a", "b"]
    assert document["links"].keys() == {"self", "events", "logs", "cancel"}


async def test_a_processing_task_shows_its_progress(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id, token = await staging.processing()
    checked(await alice.get(f"/v1/workload/status/{task_id}"), {"started_at"})
    await staging.store.beat(task_id, 1, token, progress=41, message="zur Hälfte")
    document = checked(await alice.get(f"/v1/workload/status/{task_id}"), {"started_at", "message"})
    assert (document["status"], document["progress"], document["attempt"]) == ("PROCESSING", 41, 1)
    assert document["message"] == "zur Hälfte"
    await staging.store.beat(task_id, 1, token, progress=7, message=None)
    assert (await alice.get(f"/v1/workload/status/{task_id}")).json()["progress"] == 41


async def test_a_completed_task_describes_its_file(
    service: Service, alice: httpx.AsyncClient, staging: Staging
) -> None:
    task_id = await staging.completed(b"content", filename="a.csv", content_type="text/csv")
    answer = await alice.get(f"/v1/workload/status/{task_id}")
    document = checked(answer, {"started_at", "finished_at", "expires_at", "result", "result_url"})
    assert (document["status"], document["progress"]) == ("COMPLETED", 100)
    assert document["result_url"] == f"{service.settings.public_url}/v1/workload/{task_id}/result"
    assert document["result"] == {
        "size": 7,
        "content_type": "text/csv",
        "filename": "a.csv",
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    }
    assert document["links"]["result"] == {"href": f"/v1/workload/{task_id}/result"}
    assert document["created_at"] <= document["started_at"] <= document["finished_at"] < document["expires_at"]


async def test_a_completed_task_without_a_file_names_none(alice: httpx.AsyncClient, staging: Staging) -> None:
    answer = await alice.get(f"/v1/workload/status/{await staging.completed()}")
    document = checked(answer, {"started_at", "finished_at"})
    assert document["links"].keys() == {"self", "events", "logs"}


async def test_a_failed_task_tells_its_error_as_a_problem(alice: httpx.AsyncClient, staging: Staging) -> None:
    answer = await alice.get(f"/v1/workload/status/{await staging.failed()}")
    document = checked(answer, {"started_at", "finished_at", "error"})
    assert document["status"] == "FAILED"
    assert document["error"] == {"type": FAILURE.type, "title": FAILURE.title, "detail": FAILURE.detail}
    assert (await alice.get(document["error"]["type"])).status_code == 200


async def test_the_answer_to_a_submission_is_the_document_and_a_token(alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.3, "labels": ["x"]})
    assert answer.status_code == 202
    task = answer.json()
    assert task.keys() - {"queue", "started_at", "message"} == ALWAYS | {"task_token"}
    assert answer.headers["location"] == task["links"]["self"]["href"]
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["cache-control"] == "no-store"
    shown = (await alice.get(answer.headers["location"])).json()
    assert shown["seq"] >= task["seq"]
    assert "task_token" not in shown
    for name in ("task_id", "action", "created_at", "labels", "max_attempts"):
        assert shown[name] == task[name]


async def test_progress_and_seq_only_rise_over_a_whole_run(service: Service, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", json={"action": "sleep", "seconds": 0.6, "steps": 6})
    seen = [answer.json()]
    while seen[-1]["status"] not in ("COMPLETED", "FAILED"):
        seen.append((await alice.get(answer.headers["location"])).json())
    assert seen[-1]["status"] == "COMPLETED"
    for name in ("seq", "progress", "attempt"):
        assert [one[name] for one in seen] == sorted(one[name] for one in seen)
    assert len({one["created_at"] for one in seen}) == 1


@pytest.mark.parametrize("path", ["/v1/workload/status/{}", "/v1/workload/{}/result"])
async def test_what_is_anothers_looks_like_what_is_not_there(
    path: str, alice: httpx.AsyncClient, bob: httpx.AsyncClient, staging: Staging
) -> None:
    """Pending, ended, not promised yet, never made: to a stranger the same bytes and headers, but for the id."""
    theirs = [await staging.pending(), await staging.completed(b"x"), await staging.failed(), await staging.created()]
    same = {"X-Request-ID": "the-same"}
    answers = []
    for task_id in [*theirs, uuid4()]:
        answer = await bob.get(path.format(task_id), headers=same)
        problem_of(answer, "not-found")
        headers = [(name, value) for name, value in answer.headers.multi_items() if name != "date"]
        answers.append((headers, answer.text.replace(str(task_id), "…")))
    assert all(answer == answers[0] for answer in answers)
    problem_of(await alice.get(path.format(theirs[-1])), "not-found")  # nor does its owner see what is not promised


async def test_another_issuers_subject_of_the_same_name_is_somebody_else(service: Service) -> None:
    """The caller is (iss, sub); this service knows one issuer, so the name alone opens nothing under another."""
    async with service.client("carol") as client:
        task = (await client.post("/v1/workload", json={"action": "noop", "id": 1})).json()
        for subject in ("Carol", "carol ", "carol\0", "longhaul\0carol"):
            async with service.client(subject) as other:
                problem_of(await other.get(task["links"]["self"]["href"]), "not-found")
