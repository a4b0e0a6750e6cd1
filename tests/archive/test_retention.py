"""What goes when its time is over, and what stays."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from app.archive.archive import Archive, Doubted, ExpiredResult, Forgotten, Refused
from tests.archive.builders import CREATED, OWNER, ended_task, result_file

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def test_what_ended_before_the_moment_goes_in_portions(archive: Archive) -> None:
    old = [ended_task(finished_at=CREATED - HOUR) for _ in range(5)]
    young = ended_task(finished_at=CREATED)
    for task in (*old, young):
        await archive.insert(task)
    removed = [
        await archive.purge(ended_before=CREATED, refused_before=LONG_AGO, doubted_before=LONG_AGO, limit=2)
        for _ in range(4)
    ]
    assert removed == [2, 2, 1, 0]
    assert await archive.page(OWNER, limit=10) == [young.task]


async def test_refusals_have_a_moment_of_their_own(archive: Archive) -> None:
    task_id = uuid4()
    await archive.doubt(task_id, "m")
    assert await archive.refuse(task_id, "m")
    far = datetime.now(UTC) + HOUR
    assert await archive.purge(ended_before=far, refused_before=LONG_AGO, doubted_before=LONG_AGO, limit=9) == 0
    assert await archive.against(task_id, 1, "m") == Refused()
    assert await archive.purge(ended_before=LONG_AGO, refused_before=far, doubted_before=far, limit=9) == 1
    assert await archive.against(task_id, 1, "m") is None


async def test_doubts_have_another_and_what_was_refused_meanwhile_stays(archive: Archive) -> None:
    """A request that finds its doubt gone is told so: it cannot refuse what may have run."""
    task_id, far = uuid4(), datetime.now(UTC) + HOUR
    for message in ("doubted", "refused"):
        await archive.doubt(task_id, message)
    assert await archive.refuse(task_id, "refused")
    assert await archive.purge(ended_before=LONG_AGO, refused_before=LONG_AGO, doubted_before=LONG_AGO, limit=9) == 0
    assert await archive.against(task_id, 1, "doubted") == Doubted()
    assert await archive.purge(ended_before=LONG_AGO, refused_before=LONG_AGO, doubted_before=far, limit=9) == 1
    assert await archive.against(task_id, 1, "doubted") is None
    assert await archive.against(task_id, 1, "refused") == Refused()
    assert not await archive.refuse(task_id, "doubted")
    assert await archive.against(task_id, 1, "doubted") is None


async def test_a_mark_lives_from_the_forgetting_on(archive: Archive) -> None:
    old = ended_task(finished_at=CREATED - HOUR)
    await archive.insert(old)
    before = datetime.now(UTC) - HOUR
    assert await archive.forget(old.task.id, OWNER)
    assert await archive.purge(ended_before=before, refused_before=before, doubted_before=before, limit=9) == 0
    assert isinstance(await archive.find(old.task.id), Forgotten)
    assert (
        await archive.purge(ended_before=before + 2 * HOUR, refused_before=before, doubted_before=before, limit=9) == 1
    )
    assert await archive.find(old.task.id) is None


async def test_an_expired_result_is_named_until_it_is_removed(archive: Archive) -> None:
    expired = ended_task(result=result_file("1/1"), expires_at=CREATED - HOUR, finished_at=CREATED - 3 * HOUR)
    later = ended_task(result=result_file("2/1"), expires_at=CREATED + HOUR)
    for task in (expired, later):
        await archive.insert(task)
    found = await archive.expired_results(CREATED, limit=9)
    assert found == [ExpiredResult(expired.task.id, "1/1")]
    assert await archive.purge(ended_before=CREATED, refused_before=LONG_AGO, doubted_before=LONG_AGO, limit=9) == 0

    await archive.results_removed(found)
    await archive.results_removed(found)
    await archive.results_removed([])

    assert await archive.expired_results(CREATED, limit=9) == []
    assert await archive.find(expired.task.id) == expired
    assert await archive.purge(ended_before=CREATED, refused_before=LONG_AGO, doubted_before=LONG_AGO, limit=9) == 1


async def test_the_results_that_expired_first_come_first(archive: Archive) -> None:
    tasks = [ended_task(result=result_file(f"{hours}/1"), expires_at=CREATED - hours * HOUR) for hours in (2, 4, 1, 3)]
    for task in tasks:
        await archive.insert(task)
    found = await archive.expired_results(CREATED, limit=3)
    assert [result.key for result in found] == ["4/1", "3/1", "2/1"]


async def test_the_file_of_a_forgotten_task_is_named_at_once_and_until_it_is_removed(archive: Archive) -> None:
    """The process that forgets may die before it removes the file."""
    task = ended_task(result=result_file("1/1"), expires_at=CREATED + 999 * HOUR)
    await archive.insert(task)
    await archive.forget(task.task.id, OWNER)
    named = [ExpiredResult(task.task.id, "1/1")]
    assert await archive.expired_results(LONG_AGO, limit=9) == named
    far = datetime.now(UTC) + HOUR
    assert await archive.purge(ended_before=far, refused_before=far, doubted_before=far, limit=9) == 0
    await archive.results_removed(named)
    assert await archive.expired_results(LONG_AGO, limit=9) == []
    assert await archive.purge(ended_before=far, refused_before=far, doubted_before=far, limit=9) == 1
