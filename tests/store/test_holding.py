"""What the holder of a token does, and what happens to those who have lost theirs."""

from datetime import timedelta

import pytest

from app.domain.errors import LeaseLost
from app.domain.lifecycle import TaskStatus
from app.store.replies import Ask, Claimed, Drop, Exhausted, Park, Redrive, Released
from tests.store.cast import sealed
from tests.store.conftest import Desk, order
from tests.store.ended import ended_task
from tests.store.model.shard import normal
from tests.store.scripts import LEASE
from tests.store.stage import TASK_ID

LEASE_MS = LEASE // timedelta(milliseconds=1)
NOW = timedelta(0)


async def restore(desk: Desk, held: Claimed, *, progress: int = 30) -> str:
    """Bring the task back as its worker would."""
    envelope = order(attempt=held.attempt, charged=held.charged)
    return await desk.store.restore(
        envelope, sealed(envelope), b"\xff", held.token, progress=progress, worker="w", started_at=None
    )


async def test_progress_never_falls_within_an_attempt(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.store.beat(TASK_ID, 1, held.token, progress=70, message="siebzig")
    await desk.store.beat(TASK_ID, 1, held.token, progress=10, message=None)
    task = await desk.store.find(TASK_ID)
    assert task is not None
    assert (task.progress, task.message) == (70, "siebzig")


async def test_a_beat_without_news_changes_no_seq(desk: Desk) -> None:
    held = await desk.running(order())
    first = await desk.store.beat(TASK_ID, 1, held.token, progress=5, message=None)
    second = await desk.store.beat(TASK_ID, 1, held.token, progress=5, message=None)
    assert first == second


async def test_a_beat_brings_the_owners_wish(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.store.cancel(TASK_ID)
    assert (await desk.store.beat(TASK_ID, 1, held.token, progress=0, message=None)).held == "CANCEL"


async def test_a_living_worker_restores_in_a_young_epoch_before_anybody_rebuilds(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.later(1_000)
    await desk.empty_redis(old=False)
    assert (await desk.store.beat(TASK_ID, 1, held.token, progress=0, message=None)).held == "MISSING"
    assert await restore(desk, held) == "HELD"
    assert isinstance(await desk.claim(order(), worker="next"), Park)
    task = await desk.store.find(TASK_ID)
    assert task is not None
    assert (task.status, task.progress, task.attempt) == (TaskStatus.PROCESSING, 30, 1)
    assert task.seq > held.task.seq
    assert await desk.is_live()


@pytest.mark.parametrize("expired", [False, True])
async def test_a_restored_task_is_guarded_by_the_first_message_that_comes(desk: Desk, expired: bool) -> None:
    """Others park copies: the worker may know an outdated guard, and the true one must not be dropped for it."""
    held = await desk.running(order())
    await desk.empty_redis()
    assert await restore(desk, held) == "HELD"
    assert (await desk.hash())["guard"] == b""
    if expired:
        await desk.later(LEASE_MS)
    parked = await desk.claim(order("a copy of a copy"))
    assert isinstance(parked, Ask if expired else Park)
    assert (await desk.hash())["guard"] == b"a copy of a copy"
    assert await desk.claim(order()) == Drop("another message guards it")


async def test_a_restored_task_that_nobody_has_claimed_keeps_its_message(desk: Desk) -> None:
    """A copy was under way while Redis was emptied: it is not known to be the guard, and so the old message stays."""
    held = await desk.running(order())
    await desk.empty_redis()
    assert await restore(desk, held) == "HELD"
    assert not await desk.store.promote(TASK_ID, 1, "copy", replaces="m1")


async def test_restore_before_the_second_call_of_claim_leaves_the_message_parked(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.later(1)
    await desk.empty_redis()
    asked = await desk.claim(order(), worker="next")
    assert isinstance(asked, Ask)
    assert await restore(desk, held) == "HELD"
    assert isinstance(await desk.claim(order(), worker="next", asked=asked), Park)


async def test_restore_after_a_rebuild_is_refused_and_changes_nothing(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.later(1)
    await desk.empty_redis()
    rebuilt = await desk.claim(order(), worker="next", asked=await desk.claim(order(), worker="next"))
    assert isinstance(rebuilt, Claimed)
    before = await desk.hash()
    assert await restore(desk, held) == "LOST"
    assert await desk.hash() == before


@pytest.mark.parametrize("emptied", [False, True])
async def test_what_was_deleted_is_not_restored(desk: Desk, emptied: bool) -> None:
    """DELETE may find no hash, if Redis was emptied: its mark bars every run all the same."""
    held = await desk.running(order())
    if emptied:
        await desk.empty_redis()
    assert await desk.store.forget(TASK_ID, "owner", again=True)
    before = await desk.hash()
    assert (await desk.store.beat(TASK_ID, 1, held.token, progress=0, message=None)).held == "LOST"
    assert await restore(desk, held) == "LOST"
    assert await desk.hash() == before


async def test_a_released_task_waits_and_its_copy_brings_it_up(desk: Desk) -> None:
    held = await desk.running(order())
    released = await desk.store.release(
        TASK_ID, 1, held.token, copy_id="copy", charge=True, wait=timedelta(milliseconds=700)
    )
    assert released == Released(attempt=1, charged=1)
    assert normal(await desk.store.again(desk.store.heard[-1])) == normal(desk.store.heard[-1].reply)
    await desk.store.promote(TASK_ID, 1, "copy", replaces="message")
    assert await desk.claim(order()) == Drop("another message guards it")
    assert await desk.claim(order("copy")) == Park(timedelta(milliseconds=700), "copy-copy")
    await desk.later(700)
    again = await desk.claim(order("copy-copy"))
    assert isinstance(again, Claimed)
    assert (again.attempt, again.charged) == (2, 1)
    assert again.token > held.token


async def test_the_last_charged_attempt_is_not_released(desk: Desk) -> None:
    held = await desk.running(order(max_attempts=1))
    before = await desk.hash()
    assert await desk.store.release(TASK_ID, 1, held.token, copy_id="c", charge=True, wait=NOW) is None
    assert await desk.hash() == before
    assert await desk.store.release(TASK_ID, 1, held.token, copy_id="c", charge=False, wait=NOW) == Released(1, 0)


async def test_who_has_lost_it_can_neither_release_nor_hand_over(desk: Desk) -> None:
    late = await desk.running(order(), worker="late")
    await desk.later(LEASE_MS)
    assert isinstance(await desk.claim(order(), asked=await desk.claim(order())), Claimed)
    before = await desk.hash()
    with pytest.raises(LeaseLost):
        await desk.store.release(TASK_ID, 1, late.token, copy_id="c", charge=True, wait=NOW)
    with pytest.raises(LeaseLost):
        await desk.store.hand_over(TASK_ID, 1, late.token, "c")
    assert await desk.hash() == before


async def test_after_a_hand_over_the_copy_guards_it(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.store.hand_over(TASK_ID, 1, held.token, "copy")
    await desk.store.promote(TASK_ID, 1, "copy", replaces="message")
    assert (await desk.hash())["guard"] == b"copy"
    assert await desk.claim(order()) == Drop("another message guards it")


async def test_a_copy_that_is_not_expected_is_not_promoted(desk: Desk) -> None:
    await desk.promised(order())
    before = await desk.hash()
    await desk.store.promote(TASK_ID, 1, "a stranger", replaces="message")
    assert await desk.hash() == before


async def test_a_redrive_that_is_sent_twice_counts_once(desk: Desk) -> None:
    await desk.promised(order())
    assert isinstance(await desk.store.redrive(TASK_ID, copy_id="new"), Redrive)
    before = await desk.hash()
    assert await desk.store.again(desk.store.heard[-1]) == desk.store.heard[-1].reply
    assert await desk.hash() == before
    assert before["redrives"] == b"1"


async def test_a_redrive_takes_back_an_expired_lease_only_in_an_old_epoch_and_with_an_answer(desk: Desk) -> None:
    await desk.running(order())
    assert await desk.store.redrive(TASK_ID, copy_id="new") is None
    await desk.later(LEASE_MS + 1)
    await desk.begin_epoch(old=False)
    assert await desk.store.redrive(TASK_ID, copy_id="new") is None
    await desk.begin_epoch(old=True)
    asked = await desk.store.redrive(TASK_ID, copy_id="new")
    redriven = await desk.store.redrive(TASK_ID, copy_id="new", asked=asked)  # type: ignore[arg-type]
    assert isinstance(redriven, Redrive)
    assert (redriven.charged, redriven.envelope) == (1, sealed(order()))
    assert (await desk.hash())["status"] == b"PENDING"


async def test_what_is_no_longer_there_is_taken_off_the_list_of_the_living(desk: Desk) -> None:
    await desk.promised(order())
    await desk.redis.delete("longhaul:{s07}:task:" + str(TASK_ID))
    assert await desk.is_live()
    assert await desk.store.redrive(TASK_ID, copy_id="new") is None
    assert not await desk.is_live()


async def test_an_exhausted_task_can_be_ended(desk: Desk) -> None:
    await desk.running(order(max_attempts=1))
    await desk.later(LEASE_MS)
    assert isinstance(await desk.claim(order(), asked=await desk.claim(order())), Exhausted)
    ended = await desk.store.settle(ended_task())
    assert ended is not None
    assert ended.status is TaskStatus.FAILED
