"""The table of claim, row by row: what a worker may do with a message, by what Redis holds."""

from datetime import timedelta

import pytest

from app.domain.lifecycle import TaskStatus
from app.store.replies import Ask, Claimed, Drop, Exhausted, Park, Wait
from tests.store.cast import sealed
from tests.store.conftest import Desk, order
from tests.store.ended import ended_task
from tests.store.scripts import LEASE
from tests.store.stage import BEGINNING, TASK_ID

LEASE_MS = LEASE // timedelta(milliseconds=1)
COPY = order("m1").succeeded_by("m1-copy")


async def test_a_message_of_a_lower_run_is_dropped(desk: Desk) -> None:
    await desk.promised(order("m2", run=2))
    before = await desk.hash()
    assert await desk.claim(order("m1")) == Drop("a later run")
    assert await desk.hash() == before


async def test_without_a_hash_a_young_epoch_lets_wait(desk: Desk) -> None:
    await desk.empty_redis(old=False)
    await desk.later(LEASE_MS - 1)
    assert await desk.claim(order()) == Wait(timedelta(milliseconds=1))
    assert await desk.hash() == {}


async def test_without_a_hash_the_archive_is_asked_and_then_the_message_rebuilds(desk: Desk) -> None:
    await desk.empty_redis()
    asked = await desk.claim(order())
    assert asked == Ask("MISSING", await desk.epoch())
    assert await desk.hash() == {}
    claimed = await desk.claim(order(), asked=asked)
    assert isinstance(claimed, Claimed)
    assert claimed.rebuilt
    assert claimed.task.seq >= desk.now
    assert await desk.is_live()


async def test_an_answer_of_another_epoch_does_not_count(desk: Desk) -> None:
    await desk.empty_redis()
    asked = await desk.claim(order())
    await desk.later(1)
    await desk.empty_redis()
    again = await desk.claim(order(), asked=asked)
    assert again == Ask("MISSING", await desk.epoch())
    assert again != asked


async def test_an_answer_to_another_question_does_not_count(desk: Desk) -> None:
    await desk.empty_redis()
    epoch = await desk.epoch()
    assert await desk.claim(order(), asked=Ask("EXPIRED", epoch)) == Ask("MISSING", epoch)


async def test_the_hash_of_a_lower_run_is_rebuilt_and_its_seq_goes_on(desk: Desk) -> None:
    first = await desk.promised(order())
    asked = await desk.claim(order("m2", run=2))
    assert isinstance(asked, Ask)
    claimed = await desk.claim(order("m2", run=2), asked=asked)
    assert isinstance(claimed, Claimed)
    assert claimed.task.run == 2
    assert claimed.task.seq > first.seq


async def test_its_own_created_is_taken_though_queued_was_not_called(desk: Desk) -> None:
    await desk.created(order())
    claimed = await desk.claim(order())
    assert isinstance(claimed, Claimed)
    assert not claimed.rebuilt
    assert await desk.is_live()
    assert await desk.ttl() is None


@pytest.mark.parametrize("aborted", [False, True])
async def test_created_or_aborted_of_another_message_is_taken_after_the_archive_was_asked(
    desk: Desk, aborted: bool
) -> None:
    await desk.created(order("other", not_before=BEGINNING + 60_000, fingerprint="f"))
    if aborted:
        assert await desk.store.abort(order("other")) == "ABORTED"
    asked = await desk.claim(order())
    assert asked == Ask("CREATED", await desk.epoch())
    claimed = await desk.claim(order(), asked=asked)
    assert isinstance(claimed, Claimed), "it is this message's order, and not the other's, that counts"
    assert claimed.rebuilt, "created hid what the archive may know by now"
    assert await desk.is_live(), "if RabbitMQ is emptied now, this task needs a new message, too"
    assert await desk.ttl() is None


async def test_a_message_of_the_same_run_takes_a_retry_that_was_begun_anew_and_leaves_nothing_of_the_old_end(
    desk: Desk,
) -> None:
    """A retry's message is confirmed, Redis is emptied, the retry is asked for again: the first message comes."""
    await desk.empty_redis()
    await desk.store.rerun(order("b", run=2), b"sealed", None, ended_task())
    first = order("a", run=2)
    claimed = await desk.claim(first, asked=await desk.claim(first))
    assert isinstance(claimed, Claimed)
    assert (claimed.task.error, claimed.task.finished_at) == (None, None)


async def test_a_tombstone_bars_its_own_message(desk: Desk) -> None:
    await desk.created(order())
    await desk.store.abort(order())
    assert await desk.claim(order()) == Drop("aborted")


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
async def test_what_has_ended_is_dropped(desk: Desk, status: TaskStatus) -> None:
    await desk.running(order())
    await desk.store.settle(ended_task(status=status))
    before = await desk.hash()
    assert await desk.claim(order()) == Drop(status)
    assert await desk.hash() == before


@pytest.mark.parametrize("emptied", [False, True])
async def test_what_was_deleted_is_dropped_whatever_the_run(desk: Desk, emptied: bool) -> None:
    """Redis may have been emptied before: the mark then knows no run."""
    await desk.running(order())
    await desk.store.settle(ended_task())
    if emptied:
        await desk.empty_redis()
    epoch = await desk.epoch()
    assert await desk.store.forget(TASK_ID, "owner", again=True)
    assert await desk.claim(order("m2", run=2), asked=Ask("MISSING", epoch)) == Drop("forgotten")
    assert (await desk.hash())["status"] == b"forgotten"


async def test_while_a_delete_is_under_way_the_archive_is_asked_and_nothing_starts(desk: Desk) -> None:
    """It may have died, and where Redis was emptied, its mark bars a retry that was promised."""
    await desk.running(order())
    await desk.store.settle(ended_task())
    assert await desk.store.forget(TASK_ID, "owner")
    before = await desk.hash()
    for message in (order(), order("m2", run=2)):
        asked = await desk.claim(message)
        assert asked == Ask("MARKED", await desk.epoch())
        assert await desk.claim(message, asked=asked) == asked
    assert await desk.hash() == before


async def test_another_message_is_dropped(desk: Desk) -> None:
    await desk.promised(order())
    before = await desk.hash()
    assert await desk.claim(order("another")) == Drop("another message guards it")
    assert await desk.hash() == before


async def test_a_copy_is_taken_before_it_is_promoted_and_bars_its_original(desk: Desk) -> None:
    await desk.promised(order(not_before=BEGINNING + 500))
    assert await desk.claim(order()) == Park(timedelta(milliseconds=500), "m1-copy")
    await desk.later(500)
    assert isinstance(await desk.claim(COPY), Claimed)
    assert (await desk.hash())["guard"] == b"m1-copy"
    assert await desk.claim(order()) == Drop("another message guards it")


async def test_before_its_time_it_is_parked_and_shown(desk: Desk) -> None:
    """Its message came before `queued`: what was hidden is PENDING now, with a seq of its own, and published."""
    await desk.created(order(not_before=BEGINNING + 500))
    before = int((await desk.hash())["seq"])
    assert await desk.claim(order()) == Park(timedelta(milliseconds=500), "m1-copy")
    task = await desk.store.find(TASK_ID)
    assert task is not None
    assert (task.status, task.seq) == (TaskStatus.PENDING, before + 1)


async def test_what_is_to_be_cancelled_does_not_wait_for_its_time(desk: Desk) -> None:
    await desk.promised(order(not_before=BEGINNING + 500))
    await desk.store.cancel(TASK_ID)
    claimed = await desk.claim(order())
    assert isinstance(claimed, Claimed)
    assert claimed.cancel_requested


async def test_a_live_lease_parks_the_message_for_its_rest(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.later(4_000)
    assert await desk.claim(order(), worker="next") == Park(timedelta(milliseconds=LEASE_MS - 4_000), "m1-copy")
    assert (await desk.store.beat(TASK_ID, 1, held.token, progress=0, message=None)).held == "HELD"


async def test_after_the_clock_stepped_back_a_lease_is_cut_to_its_length(desk: Desk) -> None:
    await desk.running(order())
    await desk.later(-3_600_000)
    assert await desk.claim(order(), worker="next") == Park(LEASE, "m1-copy")
    assert int((await desk.hash())["lease_until"]) == desk.now + LEASE_MS


async def test_an_expired_lease_waits_in_a_young_epoch(desk: Desk) -> None:
    held = await desk.running(order())
    await desk.later(LEASE_MS)
    await desk.begin_epoch(old=False)
    assert await desk.claim(order(), worker="next") == Wait(LEASE)
    assert (await desk.store.beat(TASK_ID, 1, held.token, progress=0, message=None)).held == "HELD"


async def test_an_expired_lease_is_taken_over_after_the_archive_was_asked(desk: Desk) -> None:
    late = await desk.running(order(), worker="late")
    await desk.later(LEASE_MS)
    asked = await desk.claim(order(), worker="next")
    assert asked == Ask("EXPIRED", await desk.epoch())
    taken = await desk.claim(order(), worker="next", asked=asked)
    assert isinstance(taken, Claimed)
    assert (taken.attempt, taken.charged) == (2, 1)
    assert taken.token > late.token
    before = await desk.hash()
    assert (await desk.store.beat(TASK_ID, 1, late.token, progress=90, message="late")).held == "LOST"
    assert await desk.store.commit(TASK_ID, 1, late.token, b"late", progress=90) == "LOST"
    assert await desk.hash() == before


async def test_a_lost_worker_that_had_stored_a_checkpoint_is_not_charged(desk: Desk) -> None:
    lost = await desk.running(order())
    assert await desk.store.commit(TASK_ID, 1, lost.token, b"\x00half\xff", progress=50) == "HELD"
    await desk.store.beat(TASK_ID, 1, lost.token, progress=80, message=None)
    await desk.later(LEASE_MS)
    taken = await desk.claim(order(), asked=await desk.claim(order()))
    assert isinstance(taken, Claimed)
    assert (taken.charged, taken.checkpoint, taken.progress) == (0, b"\x00half\xff", 50)


async def test_who_finds_the_attempts_used_up_may_only_end_it_and_hears_so_twice(desk: Desk) -> None:
    await desk.running(order(max_attempts=1))
    await desk.later(LEASE_MS)
    exhausted = await desk.claim(order(max_attempts=1), asked=await desk.claim(order(max_attempts=1)))
    assert isinstance(exhausted, Exhausted)
    assert exhausted.task.attempt == 1
    sent_twice = await desk.store.again(desk.store.heard[-1])
    assert sent_twice == desk.store.heard[-1].reply


async def test_a_claim_that_is_sent_twice_gives_one_token(desk: Desk) -> None:
    claimed = await desk.running(order())
    before = await desk.hash()
    kind, attempt, token, *_ = await desk.store.again(desk.store.heard[-1])
    assert (kind, int(attempt), int(token)) == (b"CLAIMED", 1, claimed.token)
    assert await desk.hash() == before


async def test_tokens_rise_over_runs_though_the_clock_steps_back(desk: Desk) -> None:
    first = await desk.running(order())
    await desk.store.settle(ended_task())
    await desk.later(-3_600_000)
    again = order("m2", run=2)
    await desk.store.rerun(again, sealed(again), None, ended_task())
    second = await desk.claim(again)
    assert isinstance(second, Claimed)
    assert second.token > first.token
