"""What SQL says against starting a run, and which messages it bars."""

import asyncio
from uuid import uuid4

from app.archive.archive import Archive, Doubted, Forgotten, Refused
from tests.archive.builders import OWNER, ended_task, failed_task


async def test_nothing_stands_against_an_unknown_task(archive: Archive) -> None:
    assert await archive.against(uuid4(), 1, "m") is None
    assert await archive.find(uuid4()) is None


async def test_a_row_stands_against_its_own_run_and_earlier_ones_only(archive: Archive) -> None:
    second = failed_task(run=2)
    await archive.insert(failed_task(second.task.id))
    await archive.insert(second)
    assert await archive.against(second.task.id, 1, "m") == second
    assert await archive.against(second.task.id, 2, "m") == second
    assert await archive.against(second.task.id, 3, "m") is None


async def test_a_refusal_bars_exactly_its_message(archive: Archive) -> None:
    task_id = uuid4()
    await archive.doubt(task_id, "m1")
    assert await archive.refuse(task_id, "m1")
    assert await archive.refuse(task_id, "m1")
    assert await archive.against(task_id, 1, "m1") == Refused()
    assert await archive.against(task_id, 1, "m2") is None
    assert await archive.against(uuid4(), 1, "m1") is None
    assert await archive.find(task_id) is None


async def test_a_message_is_in_doubt_before_it_is_refused_and_never_again_afterwards(archive: Archive) -> None:
    task_id = uuid4()
    await archive.doubt(task_id, "m1")
    await archive.doubt(task_id, "m1")
    assert await archive.against(task_id, 1, "m1") == Doubted()
    assert await archive.against(task_id, 1, "m2") is None
    assert await archive.find(task_id) is None
    assert await archive.refuse(task_id, "m1")
    await archive.doubt(task_id, "m1")
    await archive.lift_doubt(task_id, "m1")
    assert await archive.against(task_id, 1, "m1") == Refused()


async def test_a_doubt_that_is_lifted_bars_nothing(archive: Archive) -> None:
    task_id = uuid4()
    await archive.doubt(task_id, "m1")
    await archive.doubt(task_id, "m2")
    await archive.lift_doubt(task_id, "m1")
    await archive.lift_doubt(task_id, "m1")
    assert await archive.against(task_id, 1, "m1") is None
    assert await archive.against(task_id, 1, "m2") == Doubted()


async def test_an_end_may_be_asked_for_from_a_run_on(archive: Archive) -> None:
    failed = failed_task()
    await archive.insert(failed)
    assert await archive.find(failed.task.id, run=1) == failed
    assert await archive.find(failed.task.id, run=2) is None


async def test_questions_asked_together_get_their_own_answers(archive: Archive) -> None:
    """A mark stands above a row, a row above a refusal."""
    done, failed, gone = ended_task(), failed_task(), ended_task()
    for task in (done, failed, gone):
        await archive.insert(task)
        await archive.doubt(task.task.id, "m")
        await archive.refuse(task.task.id, "m")
    await archive.forget(gone.task.id, OWNER)
    of_done, of_next, of_other, of_gone, of_nobody, found = await asyncio.gather(
        archive.against(done.task.id, 1, "m"),
        archive.against(failed.task.id, 2, "m"),
        archive.against(failed.task.id, 2, "another"),
        archive.against(gone.task.id, 1, "m"),
        archive.against(uuid4(), 1, "m"),
        archive.find(failed.task.id),
    )
    assert (of_done, of_next, of_other, of_nobody, found) == (done, Refused(), None, None, failed)
    assert isinstance(of_gone, Forgotten)
