"""What the broker has sent is taken as soon as the loop turns, however busy it is; a queue is consumed on and on."""

import asyncio
import time
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage

from app.broker.connection import open_channel
from app.broker.delivery import Delivery
from app.cancelling import cancel
from app.settings import QueueSettings
from tests.broker.conftest import Carrier, letter
from tests.support.waiting import PATIENCE
from workers import consumer as consuming
from workers.consumer import Consumer
from workers.pauses import Gate

MESSAGES = 60
TURNS = 12
"""By aiormq's own buffer of ten frames it would take twenty: a message has three."""


async def test_a_busy_loop_takes_more_than_a_few_messages_a_turn(carrier: Carrier) -> None:
    for _ in range(MESSAGES):
        await carrier.publisher.publish(letter())
    connection = await carrier.connection.connected()
    channel = await open_channel(connection, publisher_confirms=False)
    loop = asyncio.get_running_loop()
    turn = 0
    taken: list[int] = []
    all_taken = asyncio.Event()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if len(taken) < MESSAGES:
            loop.call_soon(count_turns)

    async def received(message: DeliveredMessage) -> None:
        if not taken:
            time.sleep(0.5)  # the loop is busy, and meanwhile the broker has sent them all
            count_turns()
        taken.append(turn)
        if len(taken) == MESSAGES:
            all_taken.set()
        assert message.delivery_tag is not None
        await channel.basic_ack(message.delivery_tag, wait=False)

    await channel.basic_qos(prefetch_count=MESSAGES)
    await channel.basic_consume("work", received)
    async with asyncio.timeout(10 * PATIENCE):
        await all_taken.wait()
    await channel.close()
    assert taken[-1] <= TURNS, f"{taken[-1]} turns for {MESSAGES} messages"


async def test_a_queue_is_consumed_on_when_its_connection_is_given_up(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiormq ends calls on it with CancelledError, and nobody was cancelled."""
    tries = 0

    async def given_up(**_: int) -> None:
        raise asyncio.CancelledError

    async def first_given_up(*arguments: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        channel = await open_channel(*arguments, **options)
        if tries == 1:
            monkeypatch.setattr(channel, "basic_qos", given_up)
        return channel

    monkeypatch.setattr(consuming, "open_channel", first_given_up)
    monkeypatch.setattr(consuming, "REOPEN_SECONDS", 0.01)
    taken = asyncio.Event()

    async def execute(delivery: Delivery) -> None:
        delivery.acknowledge()
        taken.set()

    consumer = Consumer(
        "work",
        QueueSettings(prefetch=1, concurrency=1),
        gate=Gate(),
        connection=carrier.connection,
        publisher=carrier.publisher,
        execute=execute,
        stopping=asyncio.Event(),
    )
    await carrier.publisher.publish(letter())
    work = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(15 * PATIENCE):
            await taken.wait()
    finally:
        await cancel(work)
    assert work.cancelled(), "who is cancelled in earnest stops"
