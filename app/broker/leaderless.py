"""Queues without a leader: RabbitMQ 3.10 leaves them behind when it is killed within 1.5 s of their declaration.

Such a quorum queue has a name and no leader, and gets none, whatever is restarted. It can be declared again and
published to, but nothing that is sent there is ever confirmed. Only deleting it helps.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final, cast

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelNotFoundEntity

from app.observability.logging import get_log

ANSWER_SECONDS: Final = 5.0
"""How long a queue may take to answer; one without a leader takes 65 s, and closes the connection."""
CLOSE_SECONDS: Final = 1.0
DELETE_SECONDS: Final = 30.0
"""RabbitMQ looks for a leader for 5 s before it deletes the queue without one."""

log = get_log("broker")


async def delete_leaderless(connection: AbstractConnection, names: Iterable[str]) -> None:
    """Delete those of the queues that have no leader, with what may be in them.

    For a broker that holds nothing that is not given to it again: one without its birth mark.

    Args:
        connection: With the right to configure and to read. The questions go over another one, which they may cost.
        names: Queues; those that are missing are passed over.

    Raises:
        AMQPError, OSError, RuntimeError, TimeoutError: The broker is away.
    """
    url = cast("aio_pika.Connection", connection).url
    asking = await aio_pika.connect(url, ssl_context=connection.kwargs["context"])
    try:
        silent = [name for name in names if not await _answers(asking, name)]
    finally:
        with contextlib.suppress(AMQPError, OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asking.close()
    for name in silent:
        log.warning("a queue has no leader; it is deleted, and declared anew", queue=name)
        async with await connection.channel() as channel:
            await channel.queue_delete(name, timeout=DELETE_SECONDS)


async def _answers(connection: AbstractConnection, name: str) -> bool:
    """Ask a queue for a message, and put that back; one that is missing has nothing to answer."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            channel = await connection.channel()
            queue = await channel.get_queue(name, ensure=False)
            message = await queue.get(fail=False)
            if message is not None:
                await message.reject(requeue=True)
            await channel.close()
    except ChannelNotFoundEntity:
        return True
    except TimeoutError:
        return False
    return True
