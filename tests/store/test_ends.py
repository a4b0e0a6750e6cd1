"""settle, cancel, forget: Redis shows what the row says, of this run or a later one, and brings nothing back."""

from datetime import timedelta

import pytest

from app.domain.lifecycle import TaskStatus
from app.domain.moments import moment
from app.domain.task import ResultFile, Task
from app.store.keys import task_key
from app.store.replies import Created, Waiting
from app.store.tasks import CREATED_TTL, FIRST_MARK_TTL
from tests.store.cast import sealed
from tests.store.conftest import Desk, order
from tests.store.ended import ended_task
from tests.store.scripts import STATUS_TTL
from tests.store.stage import BEGINNING, REAL_TIME_MS, TASK_ID

MS = timedelta(milliseconds=1)


async def test_a_settled_task_is_what_its_row_says_for_as_long_as_ends_are_shown(desk: Desk) -> None:
    await desk.running(order())
    row = ended_task(
        status=TaskStatus.COMPLETED,
        error=None,
        labels=("größe", "☂"),
        started_at=moment(BEGINNING + 3),
        expires_at=moment(BEGINNING + 9_000),
        result=ResultFile("1/2", 3, "text/csv", "größe.csv", "ab" * 32),
    )
    shown = await desk.store.settle(row)
    assert shown == row
    assert await desk.store.find(TASK_ID) == row
    assert not await desk.is_live()
    ttl = await desk.ttl()
    assert ttl is not None
    assert CREATED_TTL / MS < ttl <= STATUS_TTL / MS
    assert not {"envelope", "checkpoint", "guard", "worker", "lease_until"} & (await desk.hash()).keys()


async def test_settling_twice_changes_nothing(desk: Desk) -> None:
    await desk.running(order())
    await desk.store.settle(ended_task())
    before = await desk.hash()
    await desk.store.settle(ended_task())
    assert await desk.hash() == before


async def test_seq_rises_over_an_end_whose_row_left_too_little_room(desk: Desk) -> None:
    held = await desk.running(order())
    shown = await desk.store.settle(ended_task(seq=1))
    assert shown is not None
    assert shown.seq > held.task.seq


async def test_the_end_of_an_earlier_run_does_not_touch_a_later_one(desk: Desk) -> None:
    again = order("m2", run=2)
    await desk.store.rerun(again, sealed(again), None, ended_task())
    await desk.claim(again)
    before = await desk.hash()
    assert before["status"] == b"PROCESSING"
    assert await desk.store.settle(ended_task()) is None
    assert await desk.hash() == before


@pytest.mark.parametrize("ended", [False, True])
async def test_the_end_of_a_later_run_replaces_what_redis_has_of_an_earlier_one(desk: Desk, ended: bool) -> None:
    """Redis came back with older data: it would show, and redrive, a run that is over."""
    await desk.running(order())
    if ended:
        await desk.store.settle(ended_task())
    shown = await desk.store.settle(ended_task(run=2, attempt=2))
    assert shown is not None
    assert (shown.run, shown.status, shown.attempt) == (2, TaskStatus.FAILED, 2)
    assert not await desk.is_live()


async def test_settle_makes_no_hash(desk: Desk) -> None:
    assert await desk.store.settle(ended_task()) is None
    assert await desk.hash() == {}


async def test_settle_does_not_touch_what_was_deleted(desk: Desk) -> None:
    await desk.running(order())
    await desk.store.forget(TASK_ID, "owner", again=True)
    before = await desk.hash()
    assert await desk.store.settle(ended_task()) is None
    assert await desk.hash() == before


async def test_a_key_that_is_used_again_with_another_body_does_not_leave_its_order_on_the_old_end(desk: Desk) -> None:
    """Redis no longer holds the end; a request with the same key and another body makes a hash, and finds the row."""
    row = ended_task(fingerprint="the first body", labels=("first",))
    other = order("m2", fingerprint="another body", labels=("another",), created_at=BEGINNING + 9_000)
    assert isinstance(await desk.store.create(other, sealed(other)), Created)
    assert await desk.store.settle(row) is None, "what is not seen yet is its maker's to decide"
    await desk.store.settle(row, own="m2")
    shown = await desk.store.find(TASK_ID)
    assert shown is not None
    assert (shown.fingerprint, shown.labels, shown.created_at) == ("the first body", ("first",), row.created_at)


async def test_a_repeated_request_shows_the_end_with_the_seq_that_the_archive_shows(desk: Desk) -> None:
    """Redis no longer holds the end, and will not for ever: a watcher must not see it go back then."""
    row, again = ended_task(), order("m2", fingerprint="a body")
    await desk.later(5_000)
    assert isinstance(await desk.store.create(again, sealed(again)), Created)
    shown = await desk.store.settle(row, own="m2")
    assert shown is not None
    assert shown.seq == row.seq


async def test_a_waiting_task_that_is_cancelled_is_handed_to_whoever_asked(desk: Desk) -> None:
    await desk.promised(order())
    waiting = await desk.store.cancel(TASK_ID)
    assert isinstance(waiting, Waiting)
    assert (waiting.envelope, waiting.checkpoint, waiting.task.cancel_requested) == (sealed(order()), None, True)
    assert await desk.store.cancel(TASK_ID) == waiting


async def test_cancel_of_what_nobody_sees_finds_nothing(desk: Desk) -> None:
    assert await desk.store.cancel(TASK_ID) is None
    await desk.created(order())
    assert await desk.store.cancel(TASK_ID) is None
    await desk.store.abort(order())
    assert await desk.store.cancel(TASK_ID) is None
    await desk.store.forget(TASK_ID, "owner")
    assert await desk.store.cancel(TASK_ID) is None


@pytest.mark.parametrize("retried", [False, True])
async def test_cancel_of_an_ended_task_shows_its_end(desk: Desk, retried: bool) -> None:
    await desk.running(order())
    await desk.store.settle(ended_task())
    if retried:
        again = order("m2", run=2)
        await desk.store.rerun(again, sealed(again), None, ended_task())
    shown = await desk.store.cancel(TASK_ID)
    assert isinstance(shown, Task)
    assert shown.status is TaskStatus.FAILED


async def test_only_what_has_ended_is_forgotten(desk: Desk) -> None:
    await desk.promised(order())
    before = await desk.hash()
    assert not await desk.store.forget(TASK_ID, "owner")
    assert await desk.hash() == before
    await desk.store.settle(ended_task())
    assert await desk.store.forget(TASK_ID, "owner")
    assert await desk.store.find(TASK_ID) is None


async def test_the_first_mark_goes_soon_and_the_second_stays(desk: Desk) -> None:
    """A DELETE that dies between the two has promised nothing; one that is repeated has its time anew."""
    await desk.running(order())
    await desk.store.settle(ended_task())
    key, soon, long = task_key(TASK_ID), FIRST_MARK_TTL // MS, STATUS_TTL // MS
    assert await desk.store.forget(TASK_ID, "owner")
    assert soon - REAL_TIME_MS < (await desk.ttl() or 0) <= soon
    await desk.redis.pexpire(key, 1_000)
    assert await desk.store.forget(TASK_ID, "owner")
    assert soon - REAL_TIME_MS < (await desk.ttl() or 0) <= soon
    assert await desk.store.forget(TASK_ID, "owner", again=True)
    assert long - REAL_TIME_MS < (await desk.ttl() or 0) <= long
    before = await desk.hash()
    assert await desk.store.forget(TASK_ID, "owner"), "a late first mark"
    assert await desk.hash() == before
    assert long - REAL_TIME_MS < (await desk.ttl() or 0) <= long


async def test_after_its_row_was_blanked_it_is_forgotten_whatever_is_there(desk: Desk) -> None:
    held = await desk.running(order())
    assert await desk.store.forget(TASK_ID, "owner", again=True)
    assert not await desk.is_live()
    assert (await desk.store.beat(TASK_ID, 1, held.token, progress=0, message=None)).held == "LOST"
