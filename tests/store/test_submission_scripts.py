"""create, queued, abort, rerun: a promise is made once, and what was refused leaves no trace."""

from datetime import timedelta

from app.domain.envelope import Callback
from app.domain.lifecycle import TaskStatus
from app.domain.moments import moment
from app.domain.task import Task
from app.store.replies import Created, Deleted, Exists, Young
from app.store.tasks import CREATED_TTL, TOMBSTONE_TTL
from tests.store.cast import sealed
from tests.store.conftest import Desk, order
from tests.store.ended import ended_task
from tests.store.scripts import LEASE, STATUS_TTL
from tests.store.stage import BEGINNING, TASK_ID

MS = timedelta(milliseconds=1)


async def test_what_is_only_created_is_seen_by_nobody_and_goes_by_itself(desk: Desk) -> None:
    await desk.created(order())
    assert await desk.store.find(TASK_ID) is None
    assert not await desk.is_live()
    ttl = await desk.ttl()
    assert ttl is not None
    assert 0 < ttl <= CREATED_TTL / MS


async def test_a_promised_task_is_seen_and_stays(desk: Desk) -> None:
    task = await desk.promised(order(labels=("größe", "☂")))
    assert await desk.store.find(TASK_ID) == task
    assert (task.status, task.labels) == (TaskStatus.PENDING, ("größe", "☂"))
    assert await desk.ttl() is None
    assert await desk.is_live()


async def test_what_a_promise_answers_is_what_everybody_reads(desk: Desk) -> None:
    """It is not read back, but made from the order."""
    callback = Callback(url="https://x.example/", events=("completed",))
    whole = order(labels=("a",), not_before=BEGINNING + 9, timeout_seconds=7, fingerprint="f", callback=callback)
    assert await desk.promised(whole) == await desk.store.find(TASK_ID)
    await desk.claim(whole)
    await desk.store.settle(ended_task())
    again = order("m2", run=2, attempt=1, checkpoint_progress=40, callback=callback)
    created = await desk.store.rerun(again, sealed(again), b"\xff", ended_task())
    assert isinstance(created, Created)
    assert await desk.store.queued(again, created.epoch) == await desk.store.find(TASK_ID)


async def test_whoever_is_confirmed_first_answers_with_the_task_that_another_request_made(desk: Desk) -> None:
    first, second = order("m1", fingerprint="f"), order("m2", fingerprint="f", created_at=BEGINNING + 5)
    created = await desk.created(first)
    await desk.store.create(second, sealed(second))
    task = await desk.store.queued(second, created.epoch)
    assert isinstance(task, Task)
    assert task.created_at == moment(first.created_at)
    assert task == await desk.store.find(TASK_ID)


async def test_a_task_that_has_not_changed_is_not_read_anew(desk: Desk) -> None:
    """It is the same object, for which its document is kept; each change makes another one."""
    await desk.promised(order())
    before = await desk.store.find(TASK_ID)
    assert await desk.store.find(TASK_ID) is before
    await desk.store.cancel(TASK_ID)
    after = await desk.store.find(TASK_ID)
    assert before is not None
    assert after is not None
    assert (before.cancel_requested, after.cancel_requested) == (False, True)


async def test_bytes_that_are_no_text_come_back_as_they_went(desk: Desk) -> None:
    envelope, every_byte = order(), bytes(range(256))
    created = await desk.store.create(envelope, every_byte)
    assert isinstance(created, Created)
    await desk.store.queued(envelope, created.epoch)
    waiting = await desk.store.cancel(TASK_ID)
    assert getattr(waiting, "envelope", None) == every_byte


async def test_two_requests_with_one_key_make_one_task(desk: Desk) -> None:
    first, second = order("m1", fingerprint="f"), order("m2", fingerprint="f")
    created = await desk.created(first)
    assert await desk.store.create(second, sealed(second)) == Created(created.epoch, by_other=True, fingerprint="f")
    task = await desk.store.queued(second, created.epoch)
    assert (await desk.hash())["guard"] == b"m2", "whoever is confirmed first has the guard"
    assert await desk.store.queued(first, created.epoch) == task
    assert await desk.store.create(first, sealed(first)) == Exists(task=task)  # type: ignore[arg-type]


async def test_in_a_young_epoch_a_key_makes_no_task(desk: Desk) -> None:
    await desk.empty_redis(old=False)
    keyed, free = order(fingerprint="f"), order()
    assert await desk.store.create(keyed, sealed(keyed)) == Young(LEASE)
    assert await desk.hash() == {}
    await desk.created(free)


async def test_in_another_epoch_queued_takes_only_what_names_its_own_message(desk: Desk) -> None:
    created = await desk.created(order())
    await desk.begin_epoch(old=True)
    assert await desk.store.queued(order("another"), created.epoch) is None
    assert (await desk.hash())["status"] == b"created"
    assert isinstance(await desk.store.queued(order(), created.epoch), Task)


async def test_queued_of_an_earlier_run_does_not_take_the_guard_of_a_retry(desk: Desk) -> None:
    """A request was stopped between its confirm and `queued`, while the task ran, failed and was retried."""
    created = await desk.created(order())
    await desk.claim(order())
    await desk.store.settle(ended_task())
    again = order("m2", run=2)
    await desk.store.rerun(again, sealed(again), None, ended_task())
    shown = await desk.store.queued(order(), created.epoch)
    assert isinstance(shown, Task)
    assert shown.status is TaskStatus.FAILED
    fields = await desk.hash()
    assert (fields["status"], fields["guard"]) == (b"created", b"m2")


async def test_an_aborted_task_leaves_a_tombstone_for_its_message(desk: Desk) -> None:
    created = await desk.created(order())
    assert await desk.store.abort(order()) == "ABORTED"
    assert await desk.store.abort(order()) == "ABORTED"
    assert await desk.store.queued(order(), created.epoch) is None
    ttl = await desk.ttl()
    assert ttl is not None
    assert CREATED_TTL / MS < ttl <= TOMBSTONE_TTL / MS
    assert "envelope" not in await desk.hash()


async def test_abort_touches_neither_another_request_nor_a_living_task(desk: Desk) -> None:
    await desk.created(order())
    before = await desk.hash()
    assert await desk.store.abort(order("another")) == "MISSING"
    assert await desk.hash() == before
    await desk.claim(order())
    alive = await desk.store.abort(order())
    assert isinstance(alive, Task)
    assert alive.status is TaskStatus.PROCESSING


async def test_a_retry_shows_the_old_end_until_it_is_queued(desk: Desk) -> None:
    await desk.running(order())
    ended = await desk.store.settle(ended_task())
    assert ended is not None
    again = order("m2", run=2, attempt=1)
    created = await desk.store.rerun(again, sealed(again), b"\xff", ended_task())
    assert isinstance(created, Created)
    shown = await desk.store.find(TASK_ID)
    assert shown is not None
    assert (shown.status, shown.error, shown.message) == (ended.status, ended.error, ended.message)
    queued = await desk.store.queued(again, created.epoch)
    assert isinstance(queued, Task)
    assert (queued.status, queued.error, queued.finished_at, queued.run) == (TaskStatus.PENDING, None, None, 2)
    assert await desk.ttl() is None


async def test_an_aborted_retry_puts_the_old_end_back(desk: Desk) -> None:
    await desk.running(order())
    ended = await desk.store.settle(ended_task())
    again = order("m2", run=2, attempt=1)
    await desk.store.rerun(again, sealed(again), None, ended_task())
    assert await desk.store.abort(again) == "ABORTED"
    shown = await desk.store.find(TASK_ID)
    assert shown == ended
    ttl = await desk.ttl()
    assert ttl is not None
    assert CREATED_TTL / MS < ttl <= STATUS_TTL / MS
    third = order("m3", run=2, attempt=1)
    assert isinstance(await desk.store.rerun(third, sealed(third), None, ended_task()), Created)


async def test_of_two_retries_one_is_first(desk: Desk) -> None:
    await desk.running(order())
    await desk.store.settle(ended_task())
    first, second = order("m2", run=2), order("m3", run=2)
    assert isinstance(await desk.store.rerun(first, sealed(first), None, ended_task()), Created)
    before = await desk.hash()
    assert isinstance(await desk.store.rerun(second, sealed(second), None, ended_task()), Exists)
    assert await desk.hash() == before


async def test_what_was_deleted_is_neither_made_nor_retried_nor_promised(desk: Desk) -> None:
    created = await desk.created(order())
    assert await desk.store.forget(TASK_ID, "owner", again=True)
    again = order("m2", run=2)
    assert await desk.store.queued(order(), created.epoch) == Deleted()
    assert await desk.store.create(order(), sealed(order())) == Deleted()
    assert await desk.store.rerun(again, sealed(again), None, ended_task()) == Deleted()
    assert (await desk.hash())["status"] == b"forgotten"
