"""Lists of ended tasks, and rows that another version has written."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, update

from app.archive.archive import Archive, EndedTask
from app.archive.rows import row_of, task_of
from app.archive.tables import ended
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds, moment
from app.domain.task import Task
from tests.archive.builders import CREATED, OWNER, ended_task, failed_task, result_file

Sql = Callable[[Callable[[Connection], object]], Awaitable[object]]

NOW = milliseconds(CREATED)


@pytest.fixture
async def listed(archive: Archive) -> list[Task]:
    """Nine tasks in three milliseconds, in the order of the list."""
    tasks = [
        ended_task(UUID(int=number << 100 | 15), created_at=CREATED + timedelta(milliseconds=number % 3))
        for number in range(1, 10)
    ]
    for task in tasks:
        await archive.insert(task)
    await archive.insert(ended_task(owner_id="f" * 32))
    return sorted((task.task for task in tasks), key=lambda task: (task.created_at, str(task.id)), reverse=True)


async def test_a_list_shows_the_owners_newest_first_then_by_falling_id(archive: Archive, listed: list[Task]) -> None:
    assert await archive.page(OWNER, limit=200) == listed


@pytest.mark.parametrize("size", [1, 2, 3, 4])
async def test_pages_leave_nothing_out_and_repeat_nothing(archive: Archive, listed: list[Task], size: int) -> None:
    seen: list[Task] = []
    before: tuple[int, str] | None = None
    while page := await archive.page(OWNER, before=before, limit=size):
        assert len(page) <= size
        seen.extend(page)
        before = milliseconds(page[-1].created_at), str(page[-1].id)
    assert seen == listed


async def test_a_list_is_bounded_by_times_of_creation(archive: Archive, listed: list[Task]) -> None:
    middle = [task for task in listed if milliseconds(task.created_at) == NOW + 1]
    assert len(middle) == 3
    assert await archive.page(OWNER, created_after=NOW + 1, created_before=NOW + 2, limit=200) == middle


async def test_a_list_is_filtered_by_status_action_and_labels(archive: Archive) -> None:
    done = ended_task(labels=("a", "a_b"), created_at=CREATED + timedelta(seconds=2))
    failed = failed_task(labels=("A", "axb", "aa"), action="sleep", created_at=CREATED + timedelta(seconds=1))
    cancelled = ended_task(status=TaskStatus.CANCELLED)
    for task in (done, failed, cancelled):
        await archive.insert(task)

    async def ids(**wanted: object) -> list[UUID]:
        return [task.id for task in await archive.page(OWNER, limit=10, **wanted)]  # type: ignore[arg-type]

    assert await ids(statuses=[TaskStatus.FAILED, TaskStatus.CANCELLED]) == [failed.task.id, cancelled.task.id]
    assert await ids(actions=["sleep"]) == [failed.task.id]
    assert await ids(labels=["a"]) == [done.task.id]
    assert await ids(labels=["a_b"]) == [done.task.id]
    assert await ids(labels=["a", "a_b"]) == [done.task.id]
    assert await ids(labels=["a", "aa"]) == []


async def test_a_list_shows_a_task_once_as_its_newest_run_ended(archive: Archive) -> None:
    failed = failed_task()
    done = ended_task(failed.task.id, run=2)
    await archive.insert(failed)
    await archive.insert(done)
    assert await archive.page(OWNER, limit=10) == [done.task]
    assert await archive.page(OWNER, statuses=[TaskStatus.FAILED], limit=10) == []


async def test_a_list_shows_nothing_forgotten(archive: Archive, listed: list[Task]) -> None:
    assert await archive.forget(listed[0].id, OWNER)
    assert await archive.page(OWNER, limit=200) == listed[1:]


async def test_a_document_of_another_version_is_read(archive: Archive, sql: Sql) -> None:
    """An older one has fewer members; a newer one has more, also inside of the result and the error."""
    failed = failed_task(result=result_file(), expires_at=CREATED)
    await archive.insert(failed)
    document = json.loads(row_of(failed)["document"])
    document |= {"colour": "blue", "result": document["result"] | {"pages": 3}, "error": document["error"] | {"x": 1}}
    document["labels"] = ["old"]

    await sql(lambda connection: connection.execute(update(ended).values(document=json.dumps(document))))

    found = await archive.find(failed.task.id)
    assert isinstance(found, EndedTask)
    assert (found.task.result, found.task.error, found.task.labels) == (failed.task.result, failed.task.error, ("old",))


def test_every_member_of_a_task_is_kept() -> None:
    task = ended_task(
        message="m",
        labels=("a", "b"),
        started_at=CREATED,
        expires_at=CREATED,
        result=result_file(),
        error=failed_task().task.error,
        fingerprint="f",
        cancel_requested=True,
        next_attempt_at=CREATED,
    )
    assert task_of(row_of(task)["document"]) == task.task


def test_a_millisecond_is_the_same_millisecond_after_any_number_of_trips() -> None:
    """0.001 s times 1000 is not always whole: floats must have no part in it."""
    for number in range(NOW, NOW + 2_000):
        assert milliseconds(moment(number)) == number
