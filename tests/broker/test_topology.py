"""What is declared once at deployment, and what a starting service finds missing."""

import asyncio
from types import SimpleNamespace

import pytest

from app.broker import topology
from app.broker.connection import connect
from app.domain.errors import BrokerUnavailable, ConfigurationError
from stack.ports import free_port
from stack.servers import RabbitServer
from tests.broker.conftest import QUEUES
from tests.support.service import own_vhost
from tests.support.waiting import wait_until


async def test_a_second_declaration_changes_nothing(declared_url: str) -> None:
    async with await connect(declared_url, name="test") as connection:
        assert await topology.is_declared(connection, QUEUES)
        assert await topology.declare(connection, QUEUES) is False
        await topology.require_declared(connection, QUEUES)


async def test_an_empty_broker_stops_no_start(rabbit_server: RabbitServer) -> None:
    """Whoever would fill it again has to start on it."""
    async with await connect(own_vhost(rabbit_server), name="test") as connection:
        await topology.require_declared(connection, QUEUES)
        assert not await topology.is_declared(connection, QUEUES), "asking has not made it"


async def test_a_missing_queue_and_a_missing_exchange_stop_a_start_and_are_not_made(
    rabbit_server: RabbitServer,
) -> None:
    url = own_vhost(rabbit_server)
    async with await connect(url, name="test") as connection:
        async with await connection.channel() as channel:
            await topology._declare_all(channel, QUEUES)
        assert await topology.is_declared(connection, QUEUES)
        assert not await topology.is_declared(connection, QUEUES | {"another": 1})
        await topology.put_birth_mark(connection)
        with pytest.raises(ConfigurationError, match="run `longhaul admin declare` once"):
            await topology.require_declared(connection, QUEUES | {"another": 1})
        async with await connection.channel() as channel:
            await channel.queue_delete("delay.60s")
        assert not await topology.is_declared(connection, QUEUES)
        async with await connection.channel() as channel:
            await topology._declare_all(channel, QUEUES)
            await channel.exchange_delete("delay.1s")
        assert not await topology.is_declared(connection, QUEUES)
        assert not await topology.is_declared(connection, QUEUES), "asking has not made it"


async def test_a_queue_of_another_kind_under_our_name_is_a_configuration_error(rabbit_server: RabbitServer) -> None:
    url = own_vhost(rabbit_server)
    async with await connect(url, name="test") as connection:
        async with await connection.channel() as channel:
            await channel.declare_queue("work", durable=True)  # a classic queue
        with pytest.raises(ConfigurationError):
            await topology.declare(connection, QUEUES)


async def test_a_broker_that_goes_before_what_was_declared_is_safe_is_told(
    rabbit_server: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_vhost(rabbit_server)
    vhost = url.rpartition("/")[2]
    async with await connect(url, name="test") as connection:

        async def lost() -> bool:
            return not connection.connected.is_set()

        async def settle(_: float) -> None:
            await asyncio.to_thread(rabbit_server.ctl, "close_all_connections", "--vhost", vhost, "as if it was killed")
            await wait_until(lost)

        monkeypatch.setattr(topology, "asyncio", SimpleNamespace(sleep=settle))
        with pytest.raises(ConnectionResetError):
            await topology.declare(connection, QUEUES)


async def test_every_queue_is_a_durable_quorum_queue(declared_url: str, rabbit_server: RabbitServer) -> None:
    vhost = declared_url.rpartition("/")[2]
    listed = rabbit_server.ctl("list_queues", "-p", vhost, "--no-table-headers", "name", "type", "durable").splitlines()
    own = (topology.DEAD_QUEUE, topology.BIRTH_QUEUE, topology.WEBHOOK_QUEUE)
    names = [*QUEUES, *own, *map(topology.delay_name, topology.DELAY_LEVELS)]
    assert sorted(listed) == sorted(f"{name}\tquorum\ttrue" for name in names)


async def test_a_broker_that_goes_while_it_is_asked_of_its_queues_is_unavailable(
    declared_url: str, rabbit_server: RabbitServer
) -> None:
    """Not an error of aiormq's: housekeeping asks, and an error that it does not know ends its whole process."""
    connection = await connect(declared_url, name="test")
    asking = True

    async def ask() -> None:
        while asking:
            await topology.queue_states(connection, QUEUES)

    asked = asyncio.create_task(ask())
    await topology.queue_states(connection, QUEUES)
    vhost = declared_url.rpartition("/")[2]
    await asyncio.to_thread(rabbit_server.ctl, "close_all_connections", "--vhost", vhost, "a test")
    try:
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(asked, 15)
        with pytest.raises(BrokerUnavailable):
            await topology.queue_states(connection, QUEUES)
    finally:
        asking = False
        await connection.close()


async def test_a_broker_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(BrokerUnavailable, match="RabbitMQ does not answer"):
        await connect(f"amqp://127.0.0.1:{free_port()}/", name="test")


async def test_a_broker_that_refuses_the_user_is_unavailable_and_the_password_is_not_told(
    rabbit_server: RabbitServer,
) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        await connect(f"amqp://longhaul:wrong-word@127.0.0.1:{rabbit_server.port}/longhaul", name="test")
    assert "wrong-word" not in caught.value.detail
