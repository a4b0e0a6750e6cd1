"""Every exchange and queue, and the levels of delay.

Declared once, at deployment (`longhaul admin declare`); the services only check that it is there. Queues are quorum
queues: durable, confirmed by Raft. A delay is a queue whose messages expire after a fixed time and are dead-lettered
back to their work queue: a fixed time each, since in a queue of mixed times the first would hold up the rest.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldTable

from app.domain.errors import BrokerUnavailable, ConfigurationError
from app.observability.logging import get_log

log = get_log("broker")

WORK_EXCHANGE: Final = "longhaul"
DEAD_QUEUE: Final = "dead"
WEBHOOK_QUEUE: Final = "webhooks"
"""Wakes the senders of webhooks. It has no limit: what is due stands in the archive, and is not refused."""
BIRTH_QUEUE: Final = "birth"
"""Holds one message for as long as RabbitMQ has not been emptied."""

DELAY_LEVELS: Final = tuple(timedelta(seconds=s) for s in (1, 5, 15, 60, 300, 900, 3600))

SETTLING_SECONDS: Final = 2.0
"""A quorum queue younger than about 1.5 s does not survive a crash of its node: its name is not on disk yet."""


def delay_name(level: timedelta) -> str:
    """Return the name of a delay's exchange and queue."""
    return f"delay.{level // timedelta(seconds=1)}s"


LATENESS: Final = timedelta(seconds=2)
"""By how much a delay may be too long, if that saves further rounds."""


def level_for(wait: timedelta) -> timedelta:
    """Return the level that brings a message back in good time: the longest one that is hardly longer than the wait.

    What is left afterwards is waited for at a further level.
    """
    return max((level for level in DELAY_LEVELS if level <= wait + LATENESS), default=DELAY_LEVELS[0])


async def declare(connection: AbstractConnection, queues: Mapping[str, int]) -> bool:
    """Declare everything; what is there already stays as it is.

    Args:
        connection: With the right to configure.
        queues: The work queues and their depth limits.

    Returns:
        Whether anything was new; if so, this has waited until the broker has it safely on disk.

    Raises:
        ConfigurationError: Something of the same name but of another kind is there.
        ConnectionResetError: The connection was lost before it was safe.
    """
    if await is_declared(connection, queues):
        return False
    try:
        async with await connection.channel() as channel:
            await _declare_all(channel, queues)
    except ChannelPreconditionFailed as error:
        raise ConfigurationError(f"RabbitMQ has something else under one of our names: {error}") from error
    await asyncio.sleep(SETTLING_SECONDS)
    if not connection.connected.is_set():
        raise ConnectionResetError("The broker went before what was declared was safe.")
    return True


async def _declare_all(channel: AbstractChannel, queues: Mapping[str, int]) -> None:
    work = await channel.declare_exchange(WORK_EXCHANGE, ExchangeType.DIRECT, durable=True)
    for name, depth_limit in queues.items():
        arguments: FieldTable = {
            "x-queue-type": "quorum",
            # Depth is limited at admission; this is the backstop, and it refuses what comes instead of dropping.
            "x-max-length": 2 * depth_limit,
            "x-overflow": "reject-publish",
        }
        await (await channel.declare_queue(name, durable=True, arguments=arguments)).bind(work, name)
    for name in (DEAD_QUEUE, BIRTH_QUEUE, WEBHOOK_QUEUE):
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(work, name)
    for level in DELAY_LEVELS:
        name = delay_name(level)
        # A fanout of its own keeps the routing key, which leads back to the work queue when the time is over.
        exchange = await channel.declare_exchange(name, ExchangeType.FANOUT, durable=True)
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": level // timedelta(milliseconds=1),
            "x-dead-letter-exchange": WORK_EXCHANGE,
            "x-dead-letter-strategy": "at-least-once",  # wants reject-publish, or it silently loses
            "x-overflow": "reject-publish",
        }
        await (await channel.declare_queue(name, durable=True, arguments=arguments)).bind(exchange)


def queue_names(queues: Iterable[str]) -> list[str]:
    """Return the names of all queues: these work queues, and our own."""
    return [*queues, DEAD_QUEUE, BIRTH_QUEUE, WEBHOOK_QUEUE, *map(delay_name, DELAY_LEVELS)]


async def is_declared(connection: AbstractConnection, queues: Mapping[str, int]) -> bool:
    """Return whether every exchange and queue is there. Asks only, and declares nothing."""
    exchanges = [WORK_EXCHANGE, *map(delay_name, DELAY_LEVELS)]
    channel = await connection.channel()
    try:
        for name in exchanges:
            await channel.get_exchange(name, ensure=True)
        for name in queue_names(queues):
            await channel.get_queue(name, ensure=True)
    except ChannelNotFoundEntity:
        return False  # the broker has closed the channel
    await channel.close()
    return True


async def require_declared(connection: AbstractConnection, queues: Mapping[str, int]) -> None:
    """Stop a start on a broker that lacks a queue, as one that was added to the configuration.

    A broker without its birth mark has lost everything, or never had it: that stops nobody, or else those that would
    fill it again could not start. The leader among the workers declares it.

    Raises:
        ConfigurationError: Something is missing, on a broker that has its mark.
    """
    if await is_declared(connection, queues):
        return
    if await is_marked(connection):
        raise ConfigurationError("The queues are not declared: run `longhaul admin declare` once.")
    log.warning("RabbitMQ is empty: a worker-engine that keeps house will fill it")


async def put_birth_mark(connection: AbstractConnection) -> None:
    """Put the birth mark, unless it is there."""
    if await is_marked(connection):
        return
    async with await connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
        exchange = await channel.get_exchange(WORK_EXCHANGE, ensure=False)
        await exchange.publish(Message(b"", delivery_mode=DeliveryMode.PERSISTENT), BIRTH_QUEUE, mandatory=True)


async def is_marked(connection: AbstractConnection) -> bool:
    """Return whether the birth mark is there; without it, RabbitMQ has lost what it had."""
    return (await ready_counts(connection, [BIRTH_QUEUE])).get(BIRTH_QUEUE, 0) > 0


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker says of a queue."""

    ready: int
    """Messages that wait, less those in a worker's hands."""
    consumers: int


async def ready_counts(connection: AbstractConnection, queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each queue, less those in a worker's hands; raises as `queue_states`."""
    return {name: state.ready for name, state in (await queue_states(connection, queues)).items()}


async def queue_states(connection: AbstractConnection, queues: Iterable[str]) -> dict[str, QueueState]:
    """Return what the broker says of each queue; a missing one is left out.

    Raises:
        BrokerUnavailable: It went away.
    """
    try:
        return await _queue_states(connection, queues)
    except (AMQPError, OSError, RuntimeError, TimeoutError) as error:  # aiormq raises RuntimeError on a closed one
        raise BrokerUnavailable("The message broker is away.") from error


async def _queue_states(connection: AbstractConnection, queues: Iterable[str]) -> dict[str, QueueState]:
    states: dict[str, QueueState] = {}
    channel: AbstractChannel | None = None
    for name in queues:
        if channel is None:
            channel = await connection.channel()
        try:
            told = (await channel.get_queue(name, ensure=True)).declaration_result
            states[name] = QueueState(ready=told.message_count or 0, consumers=told.consumer_count or 0)
        except ChannelNotFoundEntity:
            channel = None  # the broker has closed it
    if channel is not None:
        await channel.close()
    return states
