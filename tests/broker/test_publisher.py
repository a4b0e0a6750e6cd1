"""A publish that returns is on the broker's disk; every other outcome has its own error."""

import asyncio
import secrets
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from aio_pika import DeliveryMode
from aiormq import Channel

from app.broker.connection import BrokerConnection
from app.broker.publisher import Publisher
from app.domain.envelope import Envelope
from app.domain.errors import BrokerUnavailable, PublishUnconfirmed, QueueFull
from app.domain.task import Owner
from app.security.sealing import Sealer
from stack.ports import free_port
from stack.servers import RabbitServer
from tests.broker.conftest import DEPTH_LIMIT, Carrier, letter
from tests.support.waiting import wait_until


async def test_a_published_letter_is_there_persistent_and_names_its_task(carrier: Carrier) -> None:
    sent = letter()
    await carrier.publisher.publish(sent)
    message = await carrier.take("work")
    assert message.body == sent.sealed
    assert message.delivery_mode is DeliveryMode.PERSISTENT
    assert (message.message_id, message.type) == (sent.message_id, sent.action)
    told = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
    assert told == {"task_id": str(sent.task_id), "request_id": "r-1", "queue": "work"}
    assert message.routing_key == "work"


async def test_every_publish_is_mandatory(carrier: Carrier) -> None:
    """What no queue takes is given back by the broker, and refused: nothing was accepted."""
    with pytest.raises(BrokerUnavailable, match="The queue does not exist; nothing was accepted"):
        await carrier.publisher.publish(letter("no-such-queue"))
    await carrier.publisher.publish(letter())
    assert await carrier.count("work") == 1, "the channel goes on"


async def test_a_full_queue_is_queuefull_and_takes_nothing_more(carrier: Carrier) -> None:
    accepted, refused = 0, 0
    for _ in range(6 * DEPTH_LIMIT):
        try:
            await carrier.publisher.publish(letter("small"))
            accepted += 1
        except QueueFull:
            refused += 1
    assert refused > 0
    assert await carrier.count("small") == accepted
    await carrier.publisher.publish(letter("work"))


async def test_two_hundred_publishes_at_once_are_each_confirmed(carrier: Carrier) -> None:
    await asyncio.gather(*(carrier.publisher.publish(letter()) for _ in range(200)))
    assert await carrier.count("work") == 200


async def test_publishes_that_come_together_do_not_wait_for_each_others_write(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain for each is a write for each, and they come one after another: it halves what a process can send."""
    await carrier.publisher.publish(letter())  # the channel is open
    drains = 0
    drain = asyncio.StreamWriter.drain

    async def counted(writer: asyncio.StreamWriter) -> None:
        nonlocal drains
        drains += 1
        await drain(writer)

    monkeypatch.setattr(asyncio.StreamWriter, "drain", counted)
    await asyncio.gather(*(carrier.publisher.publish(letter()) for _ in range(64)))
    assert drains <= 4, f"{drains} drains for 64 messages"


async def test_a_delayed_letter_comes_back_to_its_work_queue(carrier: Carrier) -> None:
    sent = letter()
    await carrier.publisher.publish_later(sent, timedelta(seconds=0.2))
    assert await carrier.count("work") == 0
    assert await carrier.count("delay.1s") == 1
    message = await carrier.take("work", timeout=5)
    assert message.routing_key == "work"
    assert (message.body, message.message_id, message.type) == (sent.sealed, sent.message_id, sent.action)
    assert message.headers["task_id"] == str(sent.task_id)
    assert message.delivery_mode is DeliveryMode.PERSISTENT
    assert await carrier.count("delay.1s") == 0


async def test_a_buried_letter_says_why_and_where_from(carrier: Carrier) -> None:
    await carrier.publisher.bury(letter(), "undecryptable")
    message = await carrier.take("dead")
    assert (message.headers["reason"], message.headers["queue"]) == ("undecryptable", "work")


async def test_without_a_connection_nothing_is_sent() -> None:
    connection = BrokerConnection(f"amqp://127.0.0.1:{free_port()}/", name="test")
    publisher = Publisher(connection, timeout=timedelta(seconds=3))
    with pytest.raises(BrokerUnavailable):
        await publisher.publish(letter())
    assert not await publisher.can_publish()


async def test_a_confirm_that_does_not_come_is_unconfirmed_and_not_refused(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have arrived: here it has."""
    publisher = Publisher(carrier.connection, timeout=timedelta(seconds=0.5))

    async def lose(self: Channel, frame: Any) -> None:
        pass

    monkeypatch.setattr(Channel, "_on_confirm_frame", lose)
    with pytest.raises(PublishUnconfirmed):
        await publisher.publish(letter())
    assert await carrier.count("work") == 1


async def test_confirms_are_given_up_when_their_channel_is_lost(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when their time is up: who asks again may be answered by then."""
    patient = Publisher(carrier.connection, timeout=timedelta(seconds=600))
    channels: set[Channel] = set()

    async def lose(self: Channel, frame: Any) -> None:
        channels.add(self)

    monkeypatch.setattr(Channel, "_on_confirm_frame", lose)
    sending = [asyncio.create_task(patient.publish(letter())) for _ in range(20)]

    async def arrived() -> bool:
        return await carrier.count("work") == len(sending)

    await wait_until(arrived, what="the messages")
    [channel] = channels
    await channel.close()
    async with asyncio.timeout(15):
        ends = await asyncio.gather(*sending, return_exceptions=True)
    assert {type(end) for end in ends} == {PublishUnconfirmed}


async def test_a_blocked_broker_refuses_at_once_and_takes_nothing(
    carrier: Carrier, rabbit_server: RabbitServer
) -> None:
    """A memory alarm: found without any timeout, also by the publish that is the first in it, whose message the broker

    takes in hand and does not confirm; and what was refused later does not arrive when it is over.
    """
    patient = Publisher(carrier.connection, timeout=timedelta(seconds=600))
    await carrier.publisher.publish(letter())
    rabbit_server.ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        with pytest.raises(PublishUnconfirmed):
            async with asyncio.timeout(15):
                await patient.publish(letter())  # a connection is told of the alarm when it publishes
        began = asyncio.get_running_loop().time()
        with pytest.raises(BrokerUnavailable, match="raised an alarm"):
            await carrier.publisher.publish(letter(body=b"refused"))
        assert asyncio.get_running_loop().time() - began < 0.5
        assert not await carrier.publisher.can_publish()
    finally:
        rabbit_server.ctl("set_vm_memory_high_watermark", "absolute", "2048MB")

    await wait_until(carrier.publisher.can_publish, what="the end of the alarm")
    await carrier.publisher.publish(letter(body=b"the last"))
    bodies = [(await carrier.take("work")).body for _ in range(await carrier.count("work"))]
    assert b"refused" not in bodies
    assert b"the last" in bodies


async def test_publishing_works_again_after_the_connection_was_lost(
    carrier: Carrier, rabbit_server: RabbitServer
) -> None:
    await carrier.publisher.publish(letter())
    first = carrier.connection.current
    rabbit_server.ctl("close_all_connections", "--vhost", carrier.url.rpartition("/")[2], "a test")

    async def published() -> bool:
        try:
            await carrier.publisher.publish(letter())
        except (BrokerUnavailable, PublishUnconfirmed):
            return False
        return carrier.connection.current is not first

    await wait_until(published, what="a publish over another connection")
    assert await carrier.count("work") >= 2


async def test_an_owners_words_never_stand_in_a_message(carrier: Carrier) -> None:
    """Neither in the body, nor in a header or a property."""
    task_id = uuid4()
    envelope = Envelope(
        task_id=task_id,
        message_id=uuid4().hex,
        action="deed",
        queue="work",
        owner=Owner("issuer", "alice-marker"),
        params={"text": "params-marker"},
        labels=("label-marker",),
        max_attempts=1,
        created_at=0,
    )
    sealer = Sealer({"k": secrets.token_bytes(32)})
    sealed = sealer.seal(envelope.model_dump_json().encode(), task_id=task_id, action="deed")
    await carrier.publisher.publish(letter(body=sealed))
    message = await carrier.take("work")
    assert b"marker" not in message.body
    assert "marker" not in repr(message.info())
    assert sealer.open(message.body, task_id=task_id, action="deed") == envelope.model_dump_json().encode()
