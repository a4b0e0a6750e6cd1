"""An operator takes a running task from its worker: it begins again from its checkpoint, uncharged, and ends once."""

from collections.abc import AsyncIterator

import httpx
import pytest

from stack.servers import RabbitServer
from tests.api.problems import problem_of
from tests.support.crashing import Theatre, theatre


@pytest.fixture(scope="module")
async def stage(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Theatre]:
    """A service with two workers."""
    async with theatre(rabbit_server, tmp_path_factory.mktemp("requeuing"), workers=2) as service:
        yield service


@pytest.fixture
async def caller(stage: Theatre, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller."""
    async with stage.client(subject) as client:
        yield client


@pytest.fixture
async def operator(stage: Theatre) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may take tasks back."""
    async with stage.client("an operator", scopes="workload:admin") as client:
        yield client


@pytest.mark.parametrize("action", ["work", "hard_work"])
async def test_a_running_task_begins_again_and_ends_once(
    action: str, stage: Theatre, caller: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    task_id = await stage.submit(caller, action, steps=6, seconds=1, max_attempts=1)
    await stage.begun(task_id)
    answer = await operator.post(f"/v1/admin/tasks/{task_id}/requeue", json={"reason": "it hangs"})
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    completed = await stage.ended(caller, task_id)
    assert (completed["status"], completed["attempt"]) == ("COMPLETED", 2)  # charged, one attempt would have been all
    assert stage.rows(task_id) == [(1, "COMPLETED")]
    assert stage.count_of(task_id)["begun"] == 2
    audit = next(line for line in stage.api_log.splitlines() if "change=requeued" in line and task_id in line)
    assert "it hangs" in audit
    assert "an operator" in audit


async def test_what_nobody_works_at_is_left_as_it_is(
    stage: Theatre, caller: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    waiting = await stage.submit(caller, delay_seconds=60)
    ended = await stage.submit(caller)
    await stage.ended(caller, ended)
    for task_id in (waiting, ended):
        before = await stage.shown(caller, task_id)
        problem_of(await operator.post(f"/v1/admin/tasks/{task_id}/requeue", json={"reason": "to see"}), "conflict")
        assert await stage.shown(caller, task_id) == before
    await caller.post(f"/v1/workload/{waiting}/cancel")
