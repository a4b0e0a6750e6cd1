"""Queues without a leader: RabbitMQ 3.10 leaves them behind when it is killed within 1.5 s of their declaration.

Such a quorum queue has a name and no leader, and gets none, whatever is restarted. It can be declared again and
published to, but nothing that is sent there is ever confirmed. Only deleting it helps.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final, cast

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelNotFoundEntity

from app.broker.connection import CONNECT_SECONDS
from app.broker.topology import is_marked
from app.observability.logging import get_log

ANSWER_SECONDS: Final = 5.0
"""How long a queue may take to answer; one without a leader takes 65 s, and closes the connection."""
CLOSE_SECONDS: Final = 1.0
DELETE_SECONDS: Final = 30.0
"""RabbitMQ looks for a leader for 5 s before it deletes the queue without one."""

log = get_log("broker")


async def delete_leaderless(connection: AbstractConnection, names: Iterable[str]) -> None:
    """Delete those of the queues that have no leader, with what may be in them, on a broker without its birth mark.

    Whatever such a broker has is given to it again. Each queue is asked a second time right before it is deleted: it
    may have been slow, or another leader may have replaced it meanwhile.

    Args:
        connection: With the right to configure and to read. The questions go over others, which they may cost.
        names: Queues; those that are missing are passed over.

    Raises:
        AMQPError, OSError, RuntimeError, TimeoutError: The broker is away.
    """
    silent = await _silent(connection, names)
    await asyncio.gather(*(_delete_if_silent(connection, name) for name in silent))


async def _delete_if_silent(connection: AbstractConnection, name: str) -> None:
    if await _silent(connection, [name]) and not await is_marked(connection):
        log.warning("a queue has no leader; it is deleted, and declared anew", queue=name)
        async with await connection.channel() as channel:
            await channel.queue_delete(name, timeout=DELETE_SECONDS)


async def _silent(connection: AbstractConnection, names: Iterable[str]) -> list[str]:
    """Return those of the queues that do not answer."""
    names = list(names)
    async with _another(connection) as asking:
        answers = await asyncio.gather(*(_answers(asking, name) for name in names))
    return [name for name, answered in zip(names, answers, strict=True) if not answered]


@contextlib.asynccontextmanager
async def _another(connection: AbstractConnection) -> AsyncIterator[AbstractConnection]:
    """Open a connection to where this one leads; it may be closed from there, or hang in the end."""
    url, options = cast("aio_pika.Connection", connection).url, connection.kwargs
    async with asyncio.timeout(CONNECT_SECONDS):
        other = await aio_pika.connect(
            url, ssl_context=options["context"], client_properties=options.get("client_properties")
        )
    try:
        yield other
    finally:
        with contextlib.suppress(AMQPError, OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await other.close()


async def _answers(connection: AbstractConnection, name: str) -> bool:
    """Ask a queue for a message, and put that back; one that is missing has nothing to answer."""
    channel = await connection.channel()
    queue = await channel.get_queue(name, ensure=False)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            message = await queue.get(fail=False)
    except ChannelNotFoundEntity:
        return True
    except TimeoutError:
        return False
    if message is not None:
        await message.reject(requeue=True)
    await channel.close()
    return True
