"""A publish without a confirm is taken back: doubted, aborted, only then refused; or it runs, and nothing bars it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from redis.asyncio import Redis

from app.archive.archive import Archive, Doubted, Known, Refused
from app.broker.connection import BrokerConnection
from app.broker.publisher import Publisher
from app.domain.envelope import Envelope
from app.domain.errors import BrokerUnavailable, OutcomeUnknown, PublishUnconfirmed
from app.domain.lifecycle import TaskStatus
from app.domain.task import Task
from app.service.publication import Publications
from app.store.epochs import Epochs
from app.store.replies import Claimed, Created, Drop
from app.store.tasks import TaskStore
from tests.store.conftest import order
from tests.store.stage import TASK_ID
from tests.support.archives import new_archive

ORDER = order(fingerprint="f")


class Watched(TaskStore):
    """A store that looks into SQL after an abort, and may let time pass then: housekeeping comes, and lifts doubts."""

    def __init__(self, redis: Redis, archive: Archive) -> None:
        super().__init__(redis, lease=timedelta(seconds=3), status_ttl=timedelta(hours=1))
        self._archive = archive
        self.known_at_abort: list[Known] = []
        self.stands_still = False

    async def abort(self, envelope: Envelope) -> Literal["ABORTED", "MISSING"] | Task:
        """Abort."""
        outcome = await super().abort(envelope)
        self.known_at_abort.append(await self._archive.against(TASK_ID, 1, envelope.message_id))
        if self.stands_still:
            now = datetime.now(UTC) + timedelta(seconds=1)
            await self._archive.purge(ended_before=now, refused_before=now, doubted_before=now, limit=9)
        return outcome


class Counter:
    """Where an order is taken back."""

    def __init__(self, redis: Redis, archive: Archive) -> None:
        self.redis = redis
        self.archive = archive
        self.tasks = Watched(redis, archive)
        publisher = Publisher(BrokerConnection("amqp://127.0.0.1:9/", name="unused"), timeout=timedelta(seconds=1))
        self._publications = Publications(tasks=self.tasks, publisher=publisher, archive=archive)

    async def create(self) -> None:
        """Begin the order; its message may be on its way."""
        assert isinstance(await self.tasks.create(ORDER, b"sealed"), Created)

    async def claim(self) -> Any:
        """Let its message arrive at a worker."""
        return await self.tasks.claim(ORDER, b"sealed", checkpoint=None, worker="w", copy_id="copy")

    async def take_back(self, *, first: bool = True) -> Task:
        """Take it back, its confirm being overdue."""
        return await self._publications._take_back_sent(ORDER, first=first, error=PublishUnconfirmed())

    async def known(self) -> Known:
        """Return what SQL says against the order's message."""
        return await self.archive.against(TASK_ID, 1, ORDER.message_id)


@pytest.fixture
async def counter(redis: Redis, tmp_path: Path) -> AsyncIterator[Counter]:
    """A counter on an empty Redis and an empty archive; nobody ran before."""
    async with new_archive(tmp_path) as archive:
        counter = Counter(redis, archive)
        await Epochs(redis).count_as_old()
        yield counter


async def test_what_was_taken_back_is_doubted_first_and_refused_before_anybody_is_told(counter: Counter) -> None:
    """Dropped before it is decided, the message could turn out to have been the task's only one."""
    await counter.create()
    with pytest.raises(BrokerUnavailable):
        await counter.take_back()
    assert counter.tasks.known_at_abort == [Doubted()]
    assert await counter.known() == Refused()
    assert await counter.claim() == Drop("aborted")


async def test_what_runs_already_is_promised_and_nothing_bars_its_message(counter: Counter) -> None:
    await counter.create()
    assert isinstance(await counter.claim(), Claimed)
    assert (await counter.take_back()).status is TaskStatus.PROCESSING
    assert counter.tasks.known_at_abort == [Doubted()]
    assert await counter.known() is None


async def test_of_what_redis_knows_nothing_the_outcome_is_unknown_and_nothing_bars_its_message(
    counter: Counter,
) -> None:
    with pytest.raises(OutcomeUnknown):
        await counter.take_back()
    assert counter.tasks.known_at_abort == [Doubted()]
    assert await counter.known() is None


async def test_who_began_twice_refuses_its_message_but_not_its_request(counter: Counter) -> None:
    """Its first message may have run."""
    await counter.create()
    with pytest.raises(OutcomeUnknown):
        await counter.take_back(first=False)
    assert await counter.known() == Refused()


async def test_who_stood_still_until_its_doubt_was_lifted_refuses_nothing(counter: Counter) -> None:
    """Redis may have lost the tombstone, and the message run."""
    await counter.create()
    counter.tasks.stands_still = True
    with pytest.raises(OutcomeUnknown):
        await counter.take_back()
    assert await counter.known() is None
