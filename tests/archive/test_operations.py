"""What operators ask of the archive: everybody's ended tasks by when they ended, and how many ended since."""

from datetime import timedelta
from uuid import UUID

from app.archive.archive import Archive, EndedCount
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds
from app.domain.task import Task
from tests.archive.builders import CREATED, ended_task, failed_task

MINUTE = timedelta(minutes=1)


async def test_the_latest_ends_of_all_owners_come_first_and_page_by_page(archive: Archive) -> None:
    ends = [
        ended_task(
            UUID(int=number << 100 | 15),
            owner_id=f"{number:032d}",
            finished_at=CREATED + MINUTE * (number // 2),
            labels=("a", f"n{number}"),
        )
        for number in range(1, 8)
    ]
    for end in ends:
        await archive.insert(end)
    tasks = [end.task for end in ends]
    expected = sorted(tasks, key=lambda task: (task.finished_at, str(task.id)), reverse=True)

    async def page(before: tuple[int, str] | None, *, limit: int = 3, **wanted: object) -> list[Task]:
        filters: dict[str, object] = {"statuses": (), "actions": (), "labels": ()} | wanted
        return await archive.latest(before=before, limit=limit, **filters)  # type: ignore[arg-type]

    found: list[Task] = []
    place = None
    while rows := await page(place):
        found += rows
        assert rows[-1].finished_at
        place = (milliseconds(rows[-1].finished_at), str(rows[-1].id))
    assert [task.id for task in found] == [task.id for task in expected]
    assert [task.id for task in await page(None, labels=("n3", "a"))] == [tasks[2].id]
    assert await page(None, actions=("sleep",)) == []
    assert await page(None, statuses=(TaskStatus.FAILED,)) == []


async def test_of_a_task_only_its_newest_end_is_listed_and_none_of_a_deleted_one(archive: Archive) -> None:
    first, gone = failed_task(), ended_task()
    await archive.insert(first)
    await archive.insert(ended_task(first.task.id, run=2))
    await archive.insert(gone)
    assert await archive.forget(gone.task.id, gone.task.owner_id)
    (only,) = await archive.latest(before=None, statuses=(), actions=(), labels=(), limit=9)
    assert (only.id, only.run) == (first.task.id, 2)


async def test_what_has_ended_since_is_counted_by_action(archive: Archive) -> None:
    for action, age in (("noop", 1), ("noop", 5), ("sleep", 1)):
        await archive.insert(ended_task(action=action, created_at=CREATED - MINUTE * age, finished_at=CREATED))
    await archive.insert(ended_task(finished_at=CREATED - MINUTE * 9, created_at=CREATED - MINUTE * 9))
    assert await archive.ended_since(CREATED - MINUTE * 2) == {"noop": EndedCount(2, 1), "sleep": EndedCount(1, 1)}
    assert await archive.ended_since(CREATED + MINUTE) == {}
