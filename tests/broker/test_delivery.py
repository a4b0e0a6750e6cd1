"""A delivery: what it is worth once its channel is gone."""

import aio_pika

from app.broker.delivery import Delivery
from tests.broker.conftest import Carrier, letter


async def test_a_delivery_is_lost_with_its_channel_and_not_before(carrier: Carrier) -> None:
    await carrier.publisher.publish(letter())
    async with await aio_pika.connect(carrier.url) as connection:
        message = await (await (await connection.channel()).get_queue("work")).get()
        delivery = Delivery(message, "work", carrier.publisher)
        before = delivery.is_lost
        await connection.close()
        assert (before, delivery.is_lost) == (False, True)
        await delivery.acknowledge()  # says nothing to anybody
    assert await carrier.count("work") == 1, "the broker has it back"
