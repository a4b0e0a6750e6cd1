"""An emptied RabbitMQ counts as filled again only when every living task has a message there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from app.archive.archive import open_archive
from app.archive.upgrading import upgrade
from app.broker.connection import BrokerConnection
from app.broker.publisher import Letter, Publisher
from app.broker.topology import BIRTH_QUEUE, declare, ready_counts
from app.domain.envelope import Envelope
from app.domain.errors import BrokerUnavailable
from app.domain.task import Owner, Task
from app.resources import side_task
from app.security.sealing import Sealer
from app.store.keys import SHARDS
from app.store.replies import Created
from app.store.tasks import TaskStore
from stack.servers import RabbitServer
from tests.support.service import own_vhost
from tests.support.waiting import wait_until
from workers.housekeeping import redriver as redriving
from workers.housekeeping.birth import Birth
from workers.housekeeping.redriver import Redriver

QUEUE = "work"
LIMITS = {QUEUE: 1000}
OWNER = Owner(issuer="longhaul", subject="alice")


class Moody(Publisher):
    """A publisher to whom the broker's alarm comes in the middle."""

    refused: frozenset[UUID] = frozenset()

    async def publish(self, letter: Letter) -> None:
        """Refuse some."""
        if letter.task_id in self.refused:
            raise BrokerUnavailable("The message broker has raised an alarm.")
        await super().publish(letter)


@dataclass
class House:
    """What the leader has."""

    connection: BrokerConnection
    publisher: Moody
    birth: Birth
    store: TaskStore
    sealer: Sealer

    async def promised(self, *, after: float = 0.0) -> UUID:
        """A task that waits, promised so many seconds after it was created; all are of one shard."""
        task_id = UUID(int=uuid4().int // SHARDS * SHARDS)
        envelope = Envelope(
            task_id=task_id,
            message_id=uuid4().hex,
            action="deed",
            queue=QUEUE,
            owner=OWNER,
            params={},
            max_attempts=3,
            created_at=1,
        )
        created = await self.store.create(envelope, self.sealer.seal_order(envelope))
        assert isinstance(created, Created)
        await asyncio.sleep(after)
        assert isinstance(await self.store.queued(envelope, created.epoch), Task)
        return task_id

    async def messages(self) -> dict[str, int]:
        """How many messages wait for a worker, and the mark."""
        return await ready_counts(await self.connection.connected(), [QUEUE, BIRTH_QUEUE])

    async def lose_the_mark(self) -> None:
        """Empty the queue of the mark, and leave it there."""
        async with await (await self.connection.connected()).channel() as channel:
            await (await channel.get_queue(BIRTH_QUEUE)).purge()


@pytest.fixture
async def house(redis: Redis, rabbit_server: RabbitServer, tmp_path: Path) -> AsyncIterator[House]:
    """A leader, on a RabbitMQ that has nothing."""
    url = f"sqlite:///{tmp_path}/archive.db"
    await upgrade(url)
    connection = BrokerConnection(own_vhost(rabbit_server), name="house")
    publisher = Moody(connection, timeout=timedelta(seconds=5))
    store = TaskStore(redis, lease=timedelta(seconds=3), status_ttl=timedelta(hours=1))
    sealer = Sealer({"key": b"k" * 32})
    async with open_archive(url) as archive, side_task(connection.run(), name="connection"):
        await connection.connected()
        redriver = Redriver(
            tasks=store,
            archive=archive,
            sealer=sealer,
            publisher=publisher,
            connection=connection,
            queues=[QUEUE],
            pauses=archive.pauses,
            patience=timedelta(hours=1),
        )
        birth = Birth(connection, redriver, LIMITS, answered=timedelta(seconds=1))
        yield House(connection, publisher, birth, store, sealer)


async def test_the_mark_waits_for_who_got_no_message(house: House) -> None:
    """Else Redis could be emptied next, and nothing anywhere would know the task: found by chaos."""
    tasks = [await house.promised() for _ in range(3)]
    house.publisher.refused = frozenset(tasks[1:])
    with pytest.raises(BrokerUnavailable, match="2 tasks"):
        await house.birth.perform()
    assert await house.messages() == {QUEUE: 1, BIRTH_QUEUE: 0}
    house.publisher.refused = frozenset(tasks[2:])
    with pytest.raises(BrokerUnavailable, match="1 tasks"):
        await house.birth.perform()
    assert await house.messages() == {QUEUE: 2, BIRTH_QUEUE: 0}, "who has one already is not given another"
    house.publisher.refused = frozenset()
    await house.birth.perform()
    assert await house.messages() == {QUEUE: 3, BIRTH_QUEUE: 1}
    await house.birth.perform()
    assert await house.messages() == {QUEUE: 3, BIRTH_QUEUE: 1}


async def test_who_is_answered_while_the_broker_is_emptied_is_waited_for(house: House) -> None:
    """Its message was confirmed, and went with all others, before Redis lists it as living."""
    assert await declare(await house.connection.connected(), LIMITS)  # to declare it anew takes no time
    await house.lose_the_mark()
    await asyncio.gather(house.promised(after=0.5), house.birth.perform())
    assert await house.messages() == {QUEUE: 1, BIRTH_QUEUE: 1}


async def test_a_new_leader_does_not_trust_a_filling_that_it_has_not_seen(house: House) -> None:
    await house.promised()
    assert await declare(await house.connection.connected(), LIMITS)
    await house.lose_the_mark()
    await house.birth.perform()
    assert await house.messages() == {QUEUE: 1, BIRTH_QUEUE: 1}


async def test_a_filling_that_has_lost_its_connection_begins_anew(house: House) -> None:
    """RabbitMQ may have been killed, and have lost what was declared and given just before."""
    tasks = [await house.promised() for _ in range(2)]
    house.publisher.refused = frozenset(tasks[1:])
    with pytest.raises(BrokerUnavailable, match="1 tasks"):
        await house.birth.perform()
    lost = await house.connection.connected()
    await lost.close()
    house.publisher.refused = frozenset()

    async def has_another() -> bool:
        return house.connection.current not in (None, lost)

    await wait_until(has_another, what="another connection")
    await house.birth.perform()
    assert await house.messages() == {QUEUE: 3, BIRTH_QUEUE: 1}, "who has one is given another"


async def test_nobody_is_passed_over_when_there_are_many(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given a message goes to the end of its shard's list, and others move up."""
    monkeypatch.setattr(redriving, "STRETCH", 2)
    tasks = [await house.promised() for _ in range(7)]
    await house.birth.perform()
    assert await house.messages() == {QUEUE: len(tasks), BIRTH_QUEUE: 1}
    async with await (await house.connection.connected()).channel() as channel:
        queue = await channel.get_queue(QUEUE)
        taken = {UUID(str((await queue.get(no_ack=True)).headers["task_id"])) for _ in tasks}
    assert taken == set(tasks)


async def test_an_order_that_does_not_open_keeps_no_mark_away(house: House) -> None:
    """No round would ever give it a message."""
    await house.promised()
    stranger = replace(house, sealer=Sealer({"another": b"x" * 32}))
    await stranger.promised()
    await house.birth.perform()
    assert await house.messages() == {QUEUE: 1, BIRTH_QUEUE: 1}
