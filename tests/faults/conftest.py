"""A service that may be broken: a Redis, a RabbitMQ, an API and two workers that no other test uses.

It is started once, since RabbitMQ takes seconds; each test gets it whole again, and breaks it in its own way.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractMessage
from redis.asyncio import Redis

from app.broker.topology import DEAD_QUEUE, DELAY_LEVELS, delay_name
from app.store.keys import task_key
from stack.ports import free_port
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.service import Service, configuration
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
WORKERS = 2
LEASE_SECONDS = 3
MAX_RSS_MB = 256
STALL_SECONDS = 6
QUEUES = {
    "slow": {"prefetch": 8, "concurrency": 8},
    "slow_blocking": {"prefetch": 4, "concurrency": 4},
    "narrow": {"prefetch": 4, "concurrency": 1},
}


class Breakable:
    """The service and its servers, and what an operator sees of them."""

    def __init__(self, service: Service, redis: RedisServer, rabbit: RabbitServer) -> None:
        self.service = service
        self.redis_server = redis
        self.rabbit_server = rabbit

    async def mend(self) -> None:
        """Bring back what a test has killed, so that two workers consume."""
        service = self.service
        for worker in list(service.workers):
            if not worker.is_running:
                worker.kill()  # takes note of its end, and ends what is left of its group
                service.workers.remove(worker)
        while len(service.workers) < WORKERS:
            await service.start_worker()

    async def task(self, task_id: str) -> dict[str, str]:
        """Return the readable part of a task's hash."""
        async with Redis.from_url(self.redis_server.url) as redis:
            fields: Any = await redis.hgetall(task_key(UUID(task_id)))
        return {name.decode(): value.decode(errors="replace") for name, value in fields.items()}

    async def change(self, task_id: str, field: str, value: str | int) -> None:
        """Change a task's hash, as no operator should."""
        async with Redis.from_url(self.redis_server.url) as redis:
            await redis.hset(task_key(UUID(task_id)), field, value)

    async def worker_of(self, task_id: str) -> Process:
        """Wait until a worker has the task, and return it."""

        async def holder() -> Process | None:
            name = (await self.task(task_id)).get("worker", "")
            return next((worker for worker in self.service.workers if name.endswith(f":{worker.pid}")), None)

        worker = await wait_until(holder, what=f"a worker's claim of {task_id}")
        assert worker
        return worker

    async def waiting(self) -> dict[str, int]:
        """Return the queues that hold messages ready to be delivered, and how many."""
        counts = {}
        async with await aio_pika.connect(self.rabbit_server.url) as connection, connection.channel() as channel:
            for name in [*QUEUES, DEAD_QUEUE, *map(delay_name, DELAY_LEVELS)]:
                queue = await channel.declare_queue(name, passive=True)
                if queue.declaration_result.message_count:
                    counts[name] = queue.declaration_result.message_count
        return counts

    async def consumed(self) -> None:
        """Wait until every worker consumes every queue, as the broker sees it."""

        async def all_consume() -> bool:
            async with await aio_pika.connect(self.rabbit_server.url) as connection, connection.channel() as channel:
                queues = [await channel.declare_queue(name, passive=True) for name in QUEUES]
                return all(queue.declaration_result.consumer_count == WORKERS for queue in queues)

        await wait_until(all_consume, timeout=15, what="the consumers' return")

    async def take(self, queue_name: str) -> list[AbstractIncomingMessage]:
        """Take all messages out of a queue."""
        taken = []
        async with await aio_pika.connect(self.rabbit_server.url) as connection, connection.channel() as channel:
            queue = await channel.get_queue(queue_name)
            while message := await queue.get(fail=False):
                await message.ack()
                taken.append(message)
        return taken

    async def publish(self, queue_name: str, message: AbstractMessage) -> None:
        """Put a message into a work queue."""
        async with await aio_pika.connect(self.rabbit_server.url) as connection, connection.channel() as channel:
            exchange = await channel.get_exchange("longhaul")
            await exchange.publish(message, queue_name)


@pytest.fixture(scope="session")
def breakable_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("breakable-redis"), free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def breakable_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("breakable-rabbit"), free_port(3), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
async def whole(
    breakable_redis: RedisServer, breakable_rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Breakable]:
    values = configuration(
        breakable_redis.service_url,
        breakable_rabbit.service_url,
        tmp_path_factory.mktemp("breakable"),
        free_port(),
        actions=["tests.faults.contracts"],
        handlers=["tests.faults.work", "tests.faults.work_of_unknown"],
        queues=QUEUES,
        lease_seconds=LEASE_SECONDS,
        max_attempts=2,
        shutdown_seconds=7,
        max_rss_mb=MAX_RSS_MB,
        stall_timeout_seconds=STALL_SECONDS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # where the services find the actions and handlers
        service = Service(tmp_path_factory.mktemp("breakable"), values)
        try:
            await service.declare()
            await service.start_api()
            yield Breakable(service, breakable_redis, breakable_rabbit)
        finally:
            service.stop()


@pytest.fixture
async def broken(whole: Breakable) -> Breakable:
    """The service, whole, to be broken."""
    await whole.mend()
    await whole.take(DEAD_QUEUE)
    return whole


@pytest.fixture
async def caller(broken: Breakable, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with broken.service.client(subject) as client:
        yield client


class Diary:
    """What a task's handler wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    async def has(self, line: str, *, within: float = 10) -> None:
        """Wait until this line is there."""

        async def there() -> bool:
            return line in self.lines

        await wait_until(there, timeout=within, what=f"{line!r} in {self.lines}")


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    """An empty one."""
    return Diary(tmp_path / "diary")


async def submit(client: httpx.AsyncClient, action: str, **fields: Any) -> str:
    """Submit a task, again while a server is away, and return its id."""

    async def accepted() -> str | None:
        answer = await client.post("/v1/workload", json={"action": action, **fields})
        assert answer.status_code in (202, 503), answer.text
        task_id: str | None = answer.json().get("task_id")
        return task_id

    task_id = await wait_until(accepted, what="the acceptance of a task")
    assert task_id
    return task_id
