"""A publisher of ours on a virtual host of its own, and an operator who looks into the queues."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from app.broker import topology
from app.broker.connection import BrokerConnection, connect
from app.broker.publisher import Letter, Publisher
from app.resources import side_task
from stack.servers import RabbitServer
from tests.support.service import own_vhost
from tests.support.waiting import wait_until

DEPTH_LIMIT = 2
QUEUES = {"work": 1000, "small": DEPTH_LIMIT}


@dataclass
class Carrier:
    """A connection that is kept up, and its publisher."""

    url: str
    connection: BrokerConnection
    publisher: Publisher

    async def take(self, queue_name: str, *, timeout: float = 10) -> AbstractIncomingMessage:
        """Wait for a message in a queue, and take it out."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            queue = await channel.get_queue(queue_name)

            async def message() -> AbstractIncomingMessage | None:
                return await queue.get(fail=False)

            taken = await wait_until(message, timeout=timeout, what=f"a message in {queue_name}")
            assert taken
            await taken.ack()
            return taken

    async def count(self, queue_name: str) -> int:
        """Return how many messages wait in a queue."""
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            queue = await channel.declare_queue(queue_name, passive=True)
            return queue.declaration_result.message_count or 0


@pytest.fixture(scope="session")
async def declared_url(rabbit_server: RabbitServer) -> str:
    """The URL of a virtual host with our topology: made once, since a new one takes two seconds to settle."""
    url = own_vhost(rabbit_server)
    async with await connect(url, name="test") as connection:
        assert await topology.declare(connection, QUEUES)
    return url


@pytest.fixture
async def carrier(declared_url: str) -> AsyncIterator[Carrier]:
    """A publisher that is connected; the queues are emptied before."""
    async with await aio_pika.connect(declared_url) as operator, operator.channel() as channel:
        for name in [*QUEUES, topology.DEAD_QUEUE, *map(topology.delay_name, topology.DELAY_LEVELS)]:
            await (await channel.get_queue(name)).purge()
    connection = BrokerConnection(declared_url, name="test publishing")
    async with side_task(connection.run(), name="publishing"):
        await connection.connected()
        yield Carrier(declared_url, connection, Publisher(connection, timeout=timedelta(seconds=3)))


def letter(queue: str = "work", body: bytes = b"sealed") -> Letter:
    """Return a letter that no other test has."""
    return Letter(uuid4(), uuid4().hex, "deed", queue, body, request_id="r-1")
