"""Birth: notices that RabbitMQ has been emptied, and fills it again from Redis.

A queue holds one message, the birth mark. When it is missing, so is everything else: the leader declares the topology,
gives every living task a new message, and only then puts the mark back. As long as a task has none, since the broker
was in alarm or a server away, the mark stays away, too: whoever asks whether Redis may be lost looks at it.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError

from app.broker.connection import BrokerConnection
from app.broker.leaderless import delete_leaderless
from app.broker.topology import BIRTH_QUEUE, declare, put_birth_mark, queue_names, ready_counts
from app.domain.errors import BrokerUnavailable
from app.observability.logging import get_log
from workers.housekeeping.redriver import Redriver

ANSWERED: Final = timedelta(seconds=2)
"""Within which a submission whose message the broker had confirmed before it was emptied has become a living task."""

log = get_log("housekeeping")


class Birth:
    """Watches the birth mark."""

    def __init__(
        self,
        connection: BrokerConnection,
        redriver: Redriver,
        depth_limits: Mapping[str, int],
        *,
        answered: timedelta = ANSWERED,
    ) -> None:
        self._connection = connection
        self._redriver = redriver
        self._depth_limits = depth_limits
        self._answered = answered.total_seconds()
        self._left: list[UUID] | None = None
        """Tasks that a filling which has begun still owes a message; None while there is none."""
        self._begun_over: AbstractConnection | None = None
        """Over which connection it has begun: with another one, RabbitMQ may have lost what was declared just then."""

    async def perform(self) -> None:
        """Fill RabbitMQ again if it has been emptied.

        Raises:
            BrokerUnavailable: It could not be, or not all of it; the next round goes on.
        """
        connection = self._connection.current
        if connection is None:
            return
        try:
            found = (await ready_counts(connection, [BIRTH_QUEUE])).get(BIRTH_QUEUE)
            if found:
                self._left = None
                return
            # Without the queue everything is gone, what was given as well.
            if found is None or self._left is None or self._begun_over is not connection:
                log.warning("RabbitMQ has been emptied; filling it again")
                self._left, self._begun_over = None, connection
                await delete_leaderless(connection, queue_names(self._depth_limits))
                await declare(connection, self._depth_limits)
                await asyncio.sleep(self._answered)
                count, self._left = await self._redriver.redrive_everything()
                log.info("new messages", tasks=count, left=len(self._left))
            else:
                self._left = await self._redriver.redrive(self._left)
            if self._left:
                raise BrokerUnavailable(f"{len(self._left)} tasks could not be given a new message yet.")
            await put_birth_mark(connection)
            log.warning("RabbitMQ is filled again")
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            raise BrokerUnavailable from error
