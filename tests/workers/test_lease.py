"""A lease is kept by beats, brings what the owner wants, and is lost for good; a forgotten task is brought back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app.archive.archive import Archive, EndedTask
from app.domain.errors import LeaseLost
from app.domain.task import Task
from app.security.sealing import Sealer
from app.store.epochs import Epochs
from app.store.keys import task_key
from app.store.replies import Claimed, Created
from app.store.tasks import TaskStore
from stack.ports import free_port
from stack.servers import RedisServer
from tests.store.conftest import order
from tests.store.ended import ended_task
from tests.store.stage import TASK_ID
from tests.support.archives import new_archive
from tests.support.waiting import wait_until
from workers.lease import Lease

LONG = timedelta(seconds=30)
SHORT = timedelta(seconds=1)
STATUS_TTL = timedelta(hours=1)
ORDER = order()
SEALER = Sealer({"test": b"k" * 32})


class Holding:
    """A task in a worker's hands, beside what an operator sees of it."""

    def __init__(self, redis: Redis, archive: Archive, tasks: TaskStore, lease: Lease) -> None:
        self.redis = redis
        self.archive = archive
        self.tasks = tasks
        self.lease = lease

    async def hash(self) -> dict[str, str]:
        """Return the readable part of the task's hash."""
        fields: Any = await self.redis.hgetall(task_key(TASK_ID))
        return {name.decode(): value.decode(errors="replace") for name, value in fields.items()}

    async def until(self, what: str, **fields: str) -> dict[str, str]:
        """Wait until the hash says this."""

        async def says() -> dict[str, str] | None:
            found = await self.hash()
            return found if fields.items() <= found.items() else None

        return await wait_until(says, what=what) or {}

    async def loses_it(self) -> None:
        """Beat until the lease is lost; whatever the worker still does, it then writes nothing more."""
        self.lease.report(90, "too late")  # the next beat comes at once
        async with asyncio.timeout(20):
            await self.lease.keep()
        assert self.lease.lost.is_set()
        before = await self.hash()
        for write in (self.lease.confirm(), self.lease.commit({"offset": 9})):
            with pytest.raises(LeaseLost):
                await write
        assert await self.hash() == before


async def held(redis: Redis, archive: Archive, *, lease: timedelta, store: type[TaskStore] = TaskStore) -> Holding:
    """Promise a task, and let a worker claim it."""
    tasks = store(redis, lease=lease, status_ttl=STATUS_TTL)
    await Epochs(redis).count_as_old()
    sealed = SEALER.seal_order(ORDER)
    created = await tasks.create(ORDER, sealed)
    assert isinstance(created, Created)
    await tasks.queued(ORDER, created.epoch)
    claimed = await tasks.claim(ORDER, sealed, checkpoint=None, worker="w", copy_id="copy")
    assert isinstance(claimed, Claimed)
    return Holding(redis, archive, tasks, Lease(tasks, archive, SEALER, ORDER, claimed, worker="w"))


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    """An empty archive."""
    async with new_archive(tmp_path) as opened:
        yield opened


@pytest.fixture
async def holding(redis: Redis, archive: Archive) -> Holding:
    """A task in a worker's hands, for long."""
    return await held(redis, archive, lease=LONG)


@pytest.fixture
async def kept(holding: Holding) -> AsyncIterator[Holding]:
    """The same, and its lease is kept."""
    beats = asyncio.create_task(holding.lease.keep())
    yield holding
    beats.cancel()
    await asyncio.gather(beats, return_exceptions=True)


# --- HELD


async def test_a_report_rides_on_a_beat_that_extends_the_lease(kept: Holding) -> None:
    before = await kept.hash()
    kept.lease.report(40, "vierzig")
    kept.lease.report(30, None)
    after = await kept.until("the report", progress="40", message="vierzig")
    assert int(after["lease_until"]) > int(before["lease_until"])
    assert not kept.lease.lost.is_set()


async def test_a_short_lease_is_kept_for_longer_than_it_lasts(redis: Redis, archive: Archive) -> None:
    holding = await held(redis, archive, lease=SHORT)
    until = int((await holding.hash())["lease_until"])
    beats = asyncio.create_task(holding.lease.keep())

    async def extended() -> bool:
        return int((await holding.hash())["lease_until"]) > until + 1_000

    await wait_until(extended, what="the beats of a second")
    assert not holding.lease.lost.is_set()
    beats.cancel()


async def test_a_checkpoint_is_stored_before_commit_returns(holding: Holding) -> None:
    holding.lease.report(40, None)
    await holding.lease.commit({"offset": 7})
    fields = await holding.hash()
    assert (fields["checkpoint_progress"], fields["committed_in"]) == ("40", "1")
    assert (holding.lease.envelope.checkpoint, holding.lease.envelope.checkpoint_progress) == ({"offset": 7}, 40)


# --- CANCEL


async def test_a_beat_brings_the_owners_wish_and_the_lease_is_still_held(kept: Holding) -> None:
    await kept.tasks.cancel(TASK_ID)
    kept.lease.report(10, None)
    async with asyncio.timeout(20):
        await kept.lease.cancel_requested.wait()
    assert (await kept.lease.confirm()).held == "CANCEL"
    assert not kept.lease.lost.is_set()


# --- LOST


async def _ends(holding: Holding) -> None:
    await holding.tasks.settle(ended_task())


async def _is_set_pending_by_hand(holding: Holding) -> None:
    await holding.redis.hset(task_key(TASK_ID), "status", "PENDING")


async def _is_taken_over(holding: Holding) -> None:
    await holding.redis.hset(task_key(TASK_ID), "token", str(holding.lease.token + 1))


async def _is_deleted(holding: Holding) -> None:
    await holding.tasks.forget(TASK_ID, "owner", again=True)


@pytest.mark.parametrize("happens", [_ends, _is_set_pending_by_hand, _is_taken_over, _is_deleted])
async def test_a_lost_lease_is_lost_for_good(holding: Holding, happens: Callable[[Holding], Any]) -> None:
    await happens(holding)
    before = await holding.hash()
    await holding.loses_it()
    assert await holding.hash() == before


# --- MISSING


async def test_a_forgotten_task_is_brought_back_from_memory_whatever_finds_it_missing(kept: Holding) -> None:
    """By a beat, and by a commit, which stores its checkpoint afterwards. Its guard is for the next claim to say."""
    kept.lease.report(20, None)
    await kept.lease.commit({"offset": 7})
    before = await kept.hash()
    await kept.redis.flushall()
    kept.lease.report(40, "weiter")
    restored = await kept.until("the restored task", status="PROCESSING", progress="40", message="weiter")
    same = ("token", "attempt", "charged", "run", "started_at", "worker", "owner", "checkpoint_progress")
    assert {name: restored.get(name) for name in same} == {name: before.get(name) for name in same}
    assert restored["guard"] == ""
    assert int(restored["seq"]) > int(before["seq"])

    await kept.redis.flushall()
    await kept.lease.commit({"offset": 8})
    assert (await kept.hash())["checkpoint_progress"] == "40"
    assert not kept.lease.lost.is_set()


async def test_who_has_not_beaten_for_a_lease_stops_instead(redis: Redis, archive: Archive) -> None:
    """Somebody else may have rebuilt the task, and Redis have been emptied since."""
    holding = await held(redis, archive, lease=SHORT)
    began = asyncio.get_running_loop().time()

    async def over() -> bool:
        return asyncio.get_running_loop().time() > began + SHORT.total_seconds()

    await wait_until(over, what="the end of the lease")
    await redis.flushall()
    await holding.loses_it()
    assert await holding.hash() == {}


@pytest.mark.parametrize("deleted", [False, True])
async def test_what_has_ended_is_not_brought_back(holding: Holding, deleted: bool) -> None:
    ended = ended_task()
    await holding.archive.insert(EndedTask(ended))
    if deleted:
        assert await holding.archive.forget(TASK_ID, ended.owner_id)
    await holding.redis.flushall()
    await holding.loses_it()
    assert (await holding.hash()).get("status") == ("forgotten" if deleted else None)


class EndingMeanwhile(TaskStore):
    """A store whose task ends, or is deleted, after the archive was asked and before it is restored."""

    archive: Archive
    deleted = False

    async def restore(self, *arguments: Any, **options: Any) -> Any:
        """Restore, too late."""
        ended: Task = ended_task()
        await self.archive.insert(EndedTask(ended))
        if self.deleted:
            await self.archive.forget(TASK_ID, ended.owner_id)
        return await super().restore(*arguments, **options)


@pytest.mark.parametrize("deleted", [False, True])
async def test_the_archive_is_asked_again_once_it_is_brought_back(
    redis: Redis, archive: Archive, deleted: bool
) -> None:
    """An end that came in between is shown, and not hidden by what was restored."""
    holding = await held(redis, archive, lease=LONG, store=EndingMeanwhile)
    assert isinstance(holding.tasks, EndingMeanwhile)
    holding.tasks.archive, holding.tasks.deleted = archive, deleted
    await redis.flushall()
    await holding.loses_it()
    assert (await holding.hash())["status"] == ("forgotten" if deleted else "FAILED")


# --- no answer


async def test_a_checkpoint_waits_for_redis_as_long_as_the_lease_may_be_held(tmp_path: Path, archive: Archive) -> None:
    server = RedisServer(tmp_path / "redis", free_port(), die_with_parent=True)
    server.start()
    try:
        async with Redis.from_url(server.url) as redis:
            holding = await held(redis, archive, lease=LONG)
            await asyncio.to_thread(server.stop)
            committing = asyncio.create_task(holding.lease.commit({"offset": 7}))
            done, _ = await asyncio.wait([committing], timeout=0.2)
            assert not done, "stored while Redis was away"
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(20):
                await committing
            assert (await holding.hash())["committed_in"] == "1"
    finally:
        server.stop()
