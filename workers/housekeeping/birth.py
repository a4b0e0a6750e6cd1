"""Birth: notices that RabbitMQ has been emptied, and fills it again from Redis.

A queue holds one message, the birth mark. When it is missing, so is everything else: the leader declares the topology,
gives every living task a new message, and only then puts the mark back.
"""

from collections.abc import Mapping

from aio_pika.exceptions import AMQPError

from app.broker.connection import BrokerConnection
from app.broker.topology import declare, is_marked, put_birth_mark
from app.domain.errors import BrokerUnavailable
from app.observability.logging import get_log
from workers.housekeeping.redriver import Redriver

log = get_log("housekeeping")


class Birth:
    """Watches the birth mark."""

    def __init__(self, connection: BrokerConnection, redriver: Redriver, depth_limits: Mapping[str, int]) -> None:
        self._connection = connection
        self._redriver = redriver
        self._depth_limits = depth_limits

    async def perform(self) -> None:
        """Fill RabbitMQ again if it has been emptied."""
        connection = self._connection.current
        if connection is None:
            return
        try:
            if await is_marked(connection):
                return
            log.warning("RabbitMQ has been emptied; filling it again")
            await declare(connection, self._depth_limits)
            count = await self._redriver.redrive_everything()
            await put_birth_mark(connection)
            log.warning("RabbitMQ is filled again", tasks=count)
        except (AMQPError, OSError, RuntimeError) as error:
            raise BrokerUnavailable from error
