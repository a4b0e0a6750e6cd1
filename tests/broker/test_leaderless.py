"""Queues that RabbitMQ has left without a leader are replaced, and no others."""

import socket

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractConnection

from app.broker import leaderless, topology
from app.broker.connection import connect
from app.broker.leaderless import delete_leaderless
from stack.servers import RabbitServer
from tests.broker.conftest import QUEUES
from tests.support.service import own_vhost

NAMES = topology.queue_names(QUEUES)


def leave_without_leader(rabbit: RabbitServer, vhost: str, queue: str) -> None:
    """Do to a queue what a kill does to one declared a moment ago: its member starts anew, without an election."""
    member = f"{{'{vhost}_{queue}', node()}}"
    machine = f'#{{name => \'{vhost}_{queue}\', queue_resource => rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)}}'
    begun = rabbit.ctl(
        "eval",
        f"ra:force_delete_server(quorum_queues, {member}), "
        f"ra:start_server(quorum_queues, '{vhost}_{queue}', {member}, {{module, rabbit_fifo, {machine}}}, [{member}]).",
    )
    assert begun.strip() == "ok"


async def waiting(connection: AbstractConnection, queue: str) -> set[bytes]:
    """Take everything out of a queue."""
    found = set()
    async with await connection.channel() as channel:
        work = await channel.get_queue(queue)
        while message := await work.get(fail=False, no_ack=True):
            found.add(message.body)
    return found


async def test_it_is_replaced_on_a_broker_that_was_emptied(rabbit_server: RabbitServer) -> None:
    """RabbitMQ never confirms what is sent there, whatever is declared or restarted: found by chaos."""
    url = own_vhost(rabbit_server)
    async with await connect(url, name="test") as connection:
        assert await topology.declare(connection, QUEUES)
        async with await connection.channel(publisher_confirms=True) as channel:
            exchange = await channel.get_exchange(topology.WORK_EXCHANGE)
            await exchange.publish(Message(b"a"), "work")
            await exchange.publish(Message(b"b"), "work")
        for queue in ("delay.1s", "small"):
            leave_without_leader(rabbit_server, url.rpartition("/")[2], queue)
        assert await topology.is_declared(connection, QUEUES), "they are there, and nobody can tell"
        await delete_leaderless(connection, NAMES)
        assert await topology.declare(connection, QUEUES), "they are declared anew"
        async with await connection.channel(publisher_confirms=True) as channel:
            exchange = await channel.get_exchange("delay.1s")
            assert await exchange.publish(Message(b""), "work", timeout=5), "it confirms"
        assert await waiting(connection, "work") == {b"a", b"b"}, "whoever answers keeps what he has"


async def test_it_is_left_alone_on_a_broker_that_is_in_use(rabbit_server: RabbitServer) -> None:
    """It is not given again what it has."""
    url = own_vhost(rabbit_server)
    async with await connect(url, name="test") as connection:
        assert await topology.declare(connection, QUEUES)
        await topology.put_birth_mark(connection)
        leave_without_leader(rabbit_server, url.rpartition("/")[2], "small")
        await delete_leaderless(connection, ["small"])
        assert await topology.is_declared(connection, QUEUES)


async def test_a_broker_that_takes_connections_and_says_nothing_is_waited_for_no_longer(
    declared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderless, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with await connect(declared_url, name="test") as connection:
            url = connection.url.with_port(mute.getsockname()[1])  # type: ignore[attr-defined]
            monkeypatch.setattr(connection, "url", url)
            with pytest.raises(TimeoutError):
                await delete_leaderless(connection, NAMES)
