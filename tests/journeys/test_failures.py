"""What becomes of a task whose work fails: tried again, later, from where it was; in the end given up, and kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from stack.servers import RabbitServer
from tests.support.crashing import Theatre, theatre
from tests.support.processes import runs
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service that these journeys share."""
    async with theatre(rabbit_server, tmp_path_factory.mktemp("failures"), workers=1) as service:
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with stage.client(subject) as client:
        yield client


ACTIONS = ("work", "hard_work")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_failed_attempt_is_repeated_from_its_checkpoint(
    stage: Theatre, caller: httpx.AsyncClient, action: str
) -> None:
    """It rests as PENDING, says until when, shows no less progress than its checkpoint, and then completes."""
    task_id = await stage.submit(caller, action, steps=4, fails_at=2, failures=2)
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] not in ("COMPLETED", "FAILED"):
        seen.append(await stage.shown(caller, task_id))
        await asyncio.sleep(0.01)

    assert (seen[-1]["status"], seen[-1]["attempt"]) == ("COMPLETED", 3)
    assert stage.count_of(task_id) == {"begun": 3, 0: 1, 1: 1, 2: 1, 3: 1}
    resting = [document for document in seen if document["status"] == "PENDING" and document["attempt"] in (1, 2)]
    assert {document["attempt"] for document in resting} == {1, 2}
    assert all(moment(document["next_attempt_at"]) > moment(document["created_at"]) for document in resting)
    assert all(document["progress"] >= 25 for document in seen if document["attempt"] >= 2)
    assert [document["seq"] for document in seen] == sorted(document["seq"] for document in seen)


async def test_attempts_that_fail_too_often_end_the_task_and_leave_a_dead_letter(
    stage: Theatre, caller: httpx.AsyncClient
) -> None:
    """Each charged, the last one's error shown; redriven by an operator it runs again, from its checkpoint."""
    task_id = await stage.submit(caller, steps=2, fails_at=1, failures=3, max_attempts=3)
    other = await stage.submit(caller, failures=9, how="fatal")
    failed = await stage.ended(caller, task_id)
    await stage.ended(caller, other)
    assert (failed["status"], failed["attempt"]) == ("FAILED", 3)
    assert failed["error"]["type"] == "/problems/handler-error"
    assert failed["error"]["detail"] == "RuntimeError: attempt 3 fails"
    assert failed["error"]["request_id"]
    assert not {"status", "instance"} & failed["error"].keys()
    assert stage.count_of(task_id) == {"begun": 3, 0: 1}

    listed = [json.loads(line) for line in (await stage.cli("admin", "dead", "list", "--json")).splitlines()]
    (letter,) = [one for one in listed if one["task_id"] == task_id]
    assert (letter["queue"], letter["action"], letter["reason"]) == ("work", "work", "handler-error")
    assert "1 run again, 0 needed" in await stage.cli("admin", "dead", "redrive", task_id)

    again = await stage.ended(caller, task_id)
    assert (again["status"], again["attempt"], again["seq"] > failed["seq"]) == ("COMPLETED", 4, True)
    assert stage.count_of(task_id) == {"begun": 4, 0: 1, 1: 1}
    assert stage.rows(task_id) == [(1, "FAILED"), (2, "COMPLETED")]
    assert await stage.dead_letters_of(task_id) == []
    assert await stage.dead_letters_of(other) == ["handler-error"]


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_handler_says_when_it_wants_to_be_tried_again(
    stage: Theatre, caller: httpx.AsyncClient, action: str
) -> None:
    """`Retry(after)` is kept: shown, and not begun before."""
    task_id = await stage.submit(caller, action, failures=1, how="retry", retry_after=2.5)
    begun = datetime.now(UTC)
    resting = await stage.until(caller, task_id, status="PENDING", attempt=1)
    due = moment(resting["next_attempt_at"])
    assert begun < due < datetime.now(UTC) + timedelta(seconds=2.6)
    assert (await stage.ended(caller, task_id))["attempt"] == 2
    assert datetime.now(UTC) >= due


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_fatal_failure_ends_the_task_at_once(stage: Theatre, caller: httpx.AsyncClient, action: str) -> None:
    """`Fatal` is not tried again, however many attempts are left."""
    task_id = await stage.submit(caller, action, failures=9, how="fatal")
    failed = await stage.ended(caller, task_id)
    assert (failed["status"], failed["attempt"], failed["error"]["detail"]) == ("FAILED", 1, "it is of no use")
    assert stage.count_of(task_id) == {"begun": 1}
    assert await stage.dead_letters_of(task_id) == ["handler-error"]


async def test_a_process_that_dies_is_a_failed_attempt(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """The engine lives on, and says how it died."""
    task_id = await stage.submit(caller, "hard_work", failures=9, how="exit", max_attempts=2)
    failed = await stage.ended(caller, task_id)
    assert (failed["status"], failed["attempt"]) == ("FAILED", 2)
    assert "status 3" in failed["error"]["detail"]


async def test_an_attempt_that_takes_too_long_is_killed(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Whatever the handler thinks of it, the task fails with `timeout`, and its process is gone."""

    async def killed(action: str, *, stubborn: bool) -> None:
        task_id = await stage.submit(
            caller, action, steps=2, seconds=30, timeout_seconds=3, max_attempts=1, stubborn=stubborn
        )
        failed = await stage.ended(caller, task_id, timeout=20)
        assert (failed["status"], failed["attempt"]) == ("FAILED", 1)
        assert failed["error"]["type"] == "/problems/timeout"

        async def buried() -> bool:  # who looks beside us has the letters in hand for a moment
            return await stage.dead_letters_of(task_id) == ["timeout"]

        await wait_until(buried, what="its dead letter")
        pids = {effect["pid"] for effect in stage.effects_of(task_id)}
        assert action == "work" or not any(map(runs, pids))

    async with asyncio.TaskGroup() as group:
        for action in ACTIONS:
            for stubborn in (False, True):
                group.create_task(killed(action, stubborn=stubborn))


async def test_a_delayed_task_begins_when_it_is_due(stage: Theatre, caller: httpx.AsyncClient) -> None:
    """Not before, and not much later."""
    task_id = await stage.submit(caller, delay_seconds=2)
    waiting = await stage.shown(caller, task_id)
    assert (waiting["status"], waiting["attempt"]) == ("PENDING", 0)
    due = moment(waiting["next_attempt_at"])
    ended = await stage.ended(caller, task_id)
    assert due <= moment(ended["started_at"]) <= due + timedelta(seconds=4)
    assert stage.count_of(task_id) == {"begun": 1, 0: 1}
