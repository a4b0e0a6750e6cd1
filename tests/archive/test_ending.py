"""The row is the end: the first one of a run wins, and what was forgotten gets none."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, event, func, insert, select
from sqlalchemy.util.concurrency import await_

from app.archive import endings
from app.archive.archive import Archive, EndedTask, Forgotten, open_archive
from app.archive.rows import Row, row_of
from app.archive.tables import ended, forgotten
from app.domain.errors import LonghaulError
from app.domain.lifecycle import TaskStatus
from tests.archive.builders import CREATED, OWNER, ended_task, failed_task, result_file

Sql = Callable[[Callable[[Connection], object]], Awaitable[object]]


def count(task_id: UUID) -> Callable[[Connection], object]:
    return lambda connection: connection.scalar(
        select(func.count()).select_from(ended).where(ended.c.task_id == task_id)
    )


async def test_a_completed_task_is_found_as_it_ended(archive: Archive) -> None:
    done = ended_task(
        result=result_file(), expires_at=CREATED + timedelta(hours=168), labels=("a", "b:c/d"), fingerprint="f" * 64
    )
    assert await archive.insert(done) == done
    assert await archive.find(done.task.id) == done


async def test_a_failed_task_keeps_its_sealed_order_and_checkpoint(archive: Archive) -> None:
    failed = failed_task(message="half\x00way \ud800 ü", started_at=CREATED)
    assert await archive.insert(failed) == failed
    assert await archive.find(failed.task.id) == failed


async def test_a_completed_task_keeps_no_sealed_bytes(archive: Archive) -> None:
    done = ended_task(envelope=b"sealed order")
    await archive.insert(done)
    assert await archive.find(done.task.id) == replace(done, envelope=None)


async def test_fifty_rows_are_one_statement_and_nothing_is_read_back_row_by_row(archive: Archive) -> None:
    """sqlite3 gives the interpreter's lock away for each row it steps to: a busy loop kept a group for 200 ms so."""
    inserts: list[str] = []
    engine: Any = archive._database._engine  # type: ignore[attr-defined]  # there is one below each kind
    listens = getattr(engine, "sync_engine", engine)

    @event.listens_for(listens, "do_execute")
    def note(_cursor: Any, statement: str, _parameters: Any, _context: Any) -> None:
        if statement.startswith("INSERT"):
            inserts.append(statement)

    @event.listens_for(listens, "do_executemany")
    def refuse(_cursor: Any, statement: str, _parameters: Any, _context: Any) -> None:
        raise AssertionError(f"one by one: {statement}")

    await asyncio.gather(*(archive.insert(ended_task()) for _ in range(50)))
    assert 1 <= len(inserts) <= 2, "the first that came may have gone alone"
    if engine.dialect.name == "sqlite":
        assert not any("RETURNING" in statement for statement in inserts)


async def test_the_first_row_of_a_run_wins_and_stays(archive: Archive) -> None:
    first = failed_task()
    late = ended_task(first.task.id)
    assert await archive.insert(first) == first
    assert await archive.insert(late) == first
    assert await archive.insert(first) == first
    assert await archive.find(first.task.id) == first


async def test_fifty_who_end_a_run_at_once_are_told_the_same_winner(url: str) -> None:
    task_id = uuid4()
    async with open_archive(url) as one, open_archive(url) as other:
        ends = [ended_task(task_id, seq=number) for number in range(50)]
        winners = await asyncio.gather(*[(one, other)[number % 2].insert(end) for number, end in enumerate(ends)])
        assert winners[0] in ends
        assert set(map(repr, winners)) == {repr(winners[0])}
        assert await one.find(task_id) == winners[0]


async def test_groups_that_overlap_in_opposite_order_do_not_block_each_other(url: str) -> None:
    ids = [uuid4() for _ in range(40)]
    async with open_archive(url) as one, open_archive(url) as other:
        forward = [one.insert(ended_task(task_id, seq=1)) for task_id in ids]
        backward = [other.insert(ended_task(task_id, seq=2)) for task_id in reversed(ids)]
        winners = await asyncio.gather(*forward, *backward)
    assert [winner and winner.task for winner in winners[:40]] == [winner and winner.task for winner in winners[:39:-1]]


async def test_each_run_has_a_row_and_the_newest_is_found(archive: Archive) -> None:
    failed = failed_task()
    again = ended_task(failed.task.id, run=2)
    assert await archive.insert(again) == again
    assert await archive.insert(failed) == failed
    assert await archive.find(failed.task.id) == again


async def test_a_row_that_the_database_refuses_fails_its_own_caller_only(archive: Archive) -> None:
    good = [ended_task() for _ in range(9)]
    impossible = ended_task(run=2**70)
    answers = await asyncio.gather(
        *[archive.insert(task) for task in (*good[:5], impossible, *good[5:])], return_exceptions=True
    )
    refused = answers.pop(5)
    assert type(refused) is LonghaulError
    assert refused.__cause__ is not None
    assert answers == good
    assert await archive.find(impossible.task.id) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": TaskStatus.PROCESSING},
        {"finished_at": None},
        {"result": result_file(), "expires_at": None},
    ],
)
def test_what_has_not_ended_cannot_be_archived(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"end|removed"):
        ended_task(**wrong)


async def test_a_forgotten_task_gets_no_row_in_any_run(archive: Archive, sql: Sql) -> None:
    failed = failed_task()
    await archive.insert(failed)
    assert await archive.forget(failed.task.id, OWNER)
    assert await archive.insert(failed) is None
    assert await archive.insert(ended_task(failed.task.id, run=2)) is None
    assert isinstance(await archive.find(failed.task.id), Forgotten)
    assert await sql(count(failed.task.id)) == 0


async def test_forgetting_takes_every_run_and_may_be_repeated(archive: Archive, sql: Sql) -> None:
    failed = failed_task()
    await archive.insert(failed)
    await archive.insert(failed_task(failed.task.id, run=2))
    assert await archive.forget(failed.task.id, OWNER)
    mark = await archive.find(failed.task.id)
    assert isinstance(mark, Forgotten)
    assert mark.owner_id == OWNER
    assert await archive.forget(failed.task.id, OWNER)
    assert await archive.find(failed.task.id) == mark
    assert await sql(count(failed.task.id)) == 0


async def test_nobody_forgets_what_has_not_ended_or_is_not_theirs(archive: Archive) -> None:
    done = ended_task()
    assert not await archive.forget(done.task.id, OWNER)
    assert await archive.insert(done) == done
    assert not await archive.forget(done.task.id, "f" * 32)
    assert await archive.find(done.task.id) == done
    assert await archive.forget(done.task.id, OWNER)
    assert not await archive.forget(done.task.id, "f" * 32)


async def test_no_row_outlives_a_mark_however_the_two_meet(url: str) -> None:
    """`forget` beside the end of a later run, and beside late rows of the first: one of the two sees the other."""
    failed = [failed_task() for _ in range(30)]
    async with open_archive(url) as one, open_archive(url) as other:
        await asyncio.gather(*[one.insert(task) for task in failed])

        async def meet(task: EndedTask) -> None:
            await asyncio.gather(
                other.forget(task.task.id, OWNER),
                one.insert(ended_task(task.task.id, run=2)),
                one.insert(task),
                other.insert(ended_task(task.task.id, run=3)),
            )

        await asyncio.gather(*map(meet, failed))
        known = [await one.find(task.task.id) for task in failed]
        assert all(isinstance(mark, Forgotten) for mark in known)
        left = await one._database.read(lambda connection: connection.scalar(select(func.count()).select_from(ended)))
        assert left == 0


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
async def test_an_insert_that_an_end_and_its_forgetting_overtake_leaves_no_row(
    archive: Archive, url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both happen after it has looked for rows to lock, and before it writes its own."""
    failed = failed_task()
    unpatched = endings._insert_first

    async def overtake() -> None:
        async with open_archive(url) as other:
            assert await other.insert(failed) == failed
            assert await other.forget(failed.task.id, OWNER)

    def overtaken(connection: Connection, rows: list[Row]) -> set[endings.Key]:
        monkeypatch.setattr(endings, "_insert_first", unpatched)
        await_(overtake())
        return unpatched(connection, rows)

    monkeypatch.setattr(endings, "_insert_first", overtaken)
    assert await archive.insert(ended_task(failed.task.id)) is None
    assert await sql(count(failed.task.id)) == 0


async def test_a_mark_stands_above_a_row_that_slipped_in(archive: Archive, sql: Sql) -> None:
    """From a restored backup, say: nobody sees it, and the next who ends or forgets the task removes it."""
    slipped = failed_task()
    mark = {"task_id": slipped.task.id, "owner_id": OWNER, "forgotten_at": 0, "result_key": None}

    def slip(connection: Connection) -> None:
        connection.execute(insert(forgotten), mark)
        connection.execute(insert(ended), row_of(slipped))

    await sql(slip)
    assert isinstance(await archive.find(slipped.task.id), Forgotten)
    assert isinstance(await archive.against(slipped.task.id, 1, "m"), Forgotten)
    assert await archive.page(OWNER, limit=10) == []
    assert await archive.insert(ended_task(slipped.task.id, run=2)) is None
    assert await sql(count(slipped.task.id)) == 0
    await sql(lambda connection: connection.execute(insert(ended), row_of(slipped)))
    assert await archive.forget(slipped.task.id, OWNER)
    assert await sql(count(slipped.task.id)) == 0
