"""The servers that tests share: real ones, started once for a session, on free ports, ended with it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from stack.ports import free_port
from stack.servers import RabbitServer, RedisServer
from tests.api.staging import Staging
from tests.support.leaks import leaks
from tests.support.service import Service, running_service

LONG: Final = ("chaos", "crashes", "journeys", "faults", "live", "dashboard", "stack", "cli", "client")
"""The rooms whose tests start and break services: few tests, and a minute for many a file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the rooms that take long: what is short fills up the processes at the end."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(here).parts[0]
        return LONG.index(room) if room in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that the session's service uses; do not empty it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()
    assert not leaks(server.directory.glob("*.log"), server.passwords)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A module's own Redis, to be broken, or for a service beside the shared one: two on one Redis share a leader."""
    server = RedisServer(tmp_path_factory.mktemp("own-redis"), free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def scratch_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that each test finds empty."""
    server = RedisServer(tmp_path_factory.mktemp("scratch-redis"), free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ; whoever runs services on it takes a vhost of its own."""
    server = RabbitServer(tmp_path_factory.mktemp("rabbit"), free_port(3), die_with_parent=True)
    server.start()
    yield server
    server.stop()
    assert not leaks(server.directory.glob("*.log"), server.passwords)


@pytest.fixture
async def redis(scratch_redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty Redis, as its operator."""
    async with Redis.from_url(scratch_redis_server.url) as client:
        await client.flushall()
        yield client
        await client.flushall()


@pytest.fixture(scope="session")
async def service(
    redis_server: RedisServer, rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """A service that tests share: an API and a worker. Break nothing in it; each test has a subject of its own."""
    directory: Path = tmp_path_factory.mktemp("service")
    async with running_service(redis_server, rabbit_server, directory) as running:
        yield running


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> str:
    """A caller whom no other test knows."""
    return f"user-of-{request.node.nodeid.rpartition('::')[2]}"


@pytest.fixture
async def alice(service: Service, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared service, as this test's own caller."""
    async with service.client(subject) as client:
        yield client


@pytest.fixture
async def service_redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """The shared service's Redis, as its operator."""
    async with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
async def staging(service: Service, service_redis: Redis, subject: str, tmp_path: Path) -> AsyncIterator[Staging]:
    """Makes tasks of this test's own caller in any state, of which no worker knows."""
    made = Staging(service_redis, service.settings, subject, tmp_path)
    yield made
    await made.clean_up()
