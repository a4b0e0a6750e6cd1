"""A delivery: what it is worth once its channel is gone, and how many frames acknowledgements take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aiormq.abc import DeliveredMessage

from app.broker.acknowledging import Acknowledger
from app.broker.delivery import Delivery
from tests.broker.conftest import Carrier, letter
from tests.support.waiting import wait_until


class Consumer:
    """A consumer's deliveries, and the acknowledgements that it sends."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.frames: list[tuple[int, bool]] = []
        self.connection: aio_pika.abc.AbstractConnection


@asynccontextmanager
async def consuming(carrier: Carrier, count: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumer]:
    """Publish so many letters, and have them delivered."""
    for _ in range(count):
        await carrier.publisher.publish(letter())
    consumer = Consumer()
    async with await aio_pika.connect(carrier.url) as connection:
        consumer.connection = connection
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        acknowledger, send = Acknowledger(channel), channel.basic_ack

        async def received(message: DeliveredMessage) -> None:
            delivery = Delivery(message, "work", acknowledger=acknowledger, publisher=carrier.publisher)
            consumer.deliveries.append(delivery)

        async def seen(tag: int, multiple: bool = False, wait: bool = True) -> None:
            consumer.frames.append((tag, multiple))
            await send(tag, multiple=multiple, wait=wait)

        monkeypatch.setattr(channel, "basic_ack", seen)
        await channel.basic_consume("work", received)

        async def all_of_them() -> bool:
            return len(consumer.deliveries) == count

        await wait_until(all_of_them, what=f"{count} deliveries")
        yield consumer


async def test_a_delivery_is_lost_with_its_channel_and_not_before(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consuming(carrier, 1, monkeypatch) as consumer:
        (delivery,) = consumer.deliveries
        before = delivery.is_lost
        await consumer.connection.close()
        assert (before, delivery.is_lost) == (False, True)
        delivery.acknowledge()  # says nothing to anybody
        await asyncio.sleep(0)
    assert await carrier.count("work") == 1, "the broker has it back"


async def test_what_is_acknowledged_in_one_turn_of_the_loop_takes_one_frame(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consuming(carrier, 50, monkeypatch) as consumer:
        for delivery in consumer.deliveries:
            delivery.acknowledge()
        await asyncio.sleep(0.1)
        assert consumer.frames == [(50, True)]
    assert await carrier.count("work") == 0


async def test_nothing_is_acknowledged_for_one_that_still_runs_nor_for_one_that_was_given_back(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consuming(carrier, 6, monkeypatch) as consumer:
        first, second, third, fourth, fifth, sixth = consumer.deliveries
        for delivery in (first, third, fifth):
            delivery.acknowledge()
        await fourth.give_back()
        await asyncio.sleep(0.1)
        assert consumer.frames == [(1, True), (3, False), (5, False)]
        second.acknowledge()
        second.acknowledge()  # once is enough: the broker would close the channel
        await second.give_back()
        await asyncio.sleep(0.1)
        assert consumer.frames[3:] == [(2, True)]
        sixth.acknowledge()
        await asyncio.sleep(0.1)
        assert consumer.frames[4:] == [(6, True)]
        assert not sixth.is_lost
    assert await carrier.count("work") == 1, "the one that was given back, which is delivered again"
