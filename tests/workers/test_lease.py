"""The lease: kept by beats, lost for good, and never believed in for longer than Redis does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from app.domain.errors import LeaseLost, StoreUnavailable
from app.store.tasks import Held, TaskStore
from tests.support.waiting import wait_until
from workers.lease import Lease

LEASE = timedelta(seconds=1)


class Tasks:
    """A store that answers as a test tells it: the servers' own tests hold the true one to its word."""

    lease = LEASE

    def __init__(self) -> None:
        self.answer: Callable[[], Held] = lambda: "HELD"
        self.delay = 0.0
        self.beats: list[tuple[int, str | None]] = []
        self.checkpoints: list[bytes] = []

    async def beat(self, task_id: UUID, token: int, *, progress: int, message: str | None) -> Held:
        await asyncio.sleep(self.delay)
        self.beats.append((progress, message))
        return self.answer()

    async def commit(self, task_id: UUID, token: int, checkpoint: bytes, *, progress: int) -> None:
        await asyncio.sleep(self.delay)
        if self.answer() != "HELD":
            raise LeaseLost
        self.checkpoints.append(checkpoint)


def away() -> Any:
    raise StoreUnavailable


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@asynccontextmanager
async def kept(tasks: Tasks) -> AsyncIterator[Lease]:
    lease = Lease(cast("TaskStore", tasks), UUID(int=1), 7, progress=10)
    keeping = asyncio.create_task(lease.keep())
    try:
        yield lease
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_only_the_newest_report_is_written_and_progress_does_not_fall(tasks: Tasks) -> None:
    async with kept(tasks) as lease:
        for percent in (20, 60, 40):
            lease.report(percent, f"at {percent}")

        async def written() -> bool:
            return bool(tasks.beats)

        await wait_until(written)
    assert tasks.beats[0] == (60, "at 40")
    assert len(tasks.beats) == 1


async def test_a_task_without_reports_is_beaten_three_times_in_a_lease(tasks: Tasks) -> None:
    async with kept(tasks) as lease:
        await asyncio.sleep(LEASE.total_seconds() * 1.5)
        assert not lease.lost.is_set()
    assert 2 <= len(tasks.beats) <= 5


@pytest.mark.parametrize("answer", ["LOST", "MISSING"])
async def test_a_lease_that_is_lost_stays_lost_and_stores_nothing(tasks: Tasks, answer: Held) -> None:
    tasks.answer = lambda: answer
    async with kept(tasks) as lease:
        lease.report(20, None)
        await asyncio.wait_for(lease.lost.wait(), 2)
        tasks.answer = lambda: "HELD"
        with pytest.raises(LeaseLost):
            await lease.commit(b"late")
    assert tasks.checkpoints == []


async def test_a_commit_that_is_refused_loses_the_lease(tasks: Tasks) -> None:
    async with kept(tasks) as lease:
        tasks.answer = lambda: "LOST"
        with pytest.raises(LeaseLost):
            await lease.commit(b"late")
        assert lease.lost.is_set()


async def test_a_commit_waits_while_redis_is_away_and_is_then_stored(tasks: Tasks) -> None:
    async with kept(tasks) as lease:
        tasks.answer = away
        commit = asyncio.create_task(lease.commit(b"kept"))
        done, _ = await asyncio.wait([commit], timeout=0.3)
        assert not done
        tasks.answer = lambda: "HELD"
        await asyncio.wait_for(commit, 2)
    assert tasks.checkpoints == [b"kept"]


async def test_a_lease_is_given_up_when_redis_stays_away_past_its_time(tasks: Tasks) -> None:
    tasks.answer = away
    async with kept(tasks) as lease:
        await asyncio.wait_for(lease.lost.wait(), LEASE.total_seconds() + 2)
        with pytest.raises(LeaseLost):
            await lease.commit(b"late")


async def test_the_lease_counts_from_the_question_and_not_from_the_answer(tasks: Tasks) -> None:
    """Redis counts from when it was asked; an answer that took long must not make the lease longer here."""
    loop = asyncio.get_running_loop()
    async with kept(tasks) as lease:
        tasks.delay = 0.6
        asked = loop.time()
        await lease.commit(b"slow")
        assert loop.time() - asked >= 0.6
        assert lease._good_until < asked + LEASE.total_seconds() + 0.4
