"""The private servers: their users, their data after a crash, and what they say when they cannot start."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import psutil
import pytest
import redis as redis_py
from aiormq.exceptions import AMQPError

from app.broker.topology import SETTLING_SECONDS
from stack.errors import StackError
from stack.ports import HOST, free_port
from stack.servers import RabbitServer, RedisServer


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()


def test_redis_brings_every_acknowledged_write_back_after_a_crash(own_redis: RedisServer) -> None:
    with redis_py.Redis.from_url(own_redis.url) as client:
        for number in range(100):
            client.set(f"longhaul:{number}", number)
    dead = own_redis.pid
    own_redis.kill()
    assert not own_redis.is_running
    own_redis.start()
    assert own_redis.pid != dead
    with redis_py.Redis.from_url(own_redis.url) as client:
        assert client.dbsize() == 100
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("command", ["FLUSHALL", "KEYS *", "CONFIG GET *", "GET other:key", "PUBLISH other x"])
def test_the_services_user_of_redis_has_only_its_own_keys(redis_server: RedisServer, command: str) -> None:
    with (
        redis_py.Redis.from_url(redis_server.service_url) as client,
        pytest.raises(redis_py.exceptions.NoPermissionError),
    ):
        client.execute_command(*command.split())


def test_redis_takes_nobody_without_a_password(redis_server: RedisServer) -> None:
    with (
        redis_py.Redis(host=HOST, port=redis_server.port) as client,
        pytest.raises(redis_py.exceptions.AuthenticationError),
    ):
        client.ping()


async def test_rabbitmq_knows_no_guest(rabbit_server: RabbitServer) -> None:
    with pytest.raises(AMQPError):
        await aio_pika.connect(f"amqp://guest:guest@{HOST}:{rabbit_server.port}/")


def test_rabbitmq_has_the_flag_without_which_delay_queues_lose(rabbit_server: RabbitServer) -> None:
    flags = dict(line.split("\t") for line in rabbit_server.ctl("list_feature_flags", "name", "state").splitlines())
    assert flags["stream_queue"] == "enabled"
    assert flags["quorum_queue"] == "enabled"


def test_no_server_listens_to_other_machines(redis_server: RedisServer, rabbit_server: RabbitServer) -> None:
    assert rabbit_server.epmd_pid
    for pid in (redis_server.pid, rabbit_server.pid, rabbit_server.epmd_pid):
        connections = psutil.Process(pid).net_connections("tcp")
        listening = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
        assert listening
        assert listening <= {"127.0.0.1", "::1"}


async def test_rabbitmq_brings_confirmed_messages_back_after_a_crash(tmp_path: Path) -> None:
    server = RabbitServer(tmp_path / "rabbit", free_port(3), die_with_parent=True)
    server.start()
    try:
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("kept", durable=True)
            message = aio_pika.Message(b"x", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="kept")
        await asyncio.sleep(SETTLING_SECONDS)  # a queue younger than that need not survive a crash
        server.kill()
        server.start()
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue("kept")
            assert (await queue.get(no_ack=True, timeout=5)).body == b"x"
        assert not server.has_consumers("kept")
        assert not server.has_consumers("no such queue")
    finally:
        server.stop()


@pytest.mark.parametrize("server", [RedisServer, RabbitServer])
def test_a_port_in_use_is_one_line_and_nothing_is_started(
    server: type[RedisServer | RabbitServer], tmp_path: Path
) -> None:
    port = free_port(3)
    with socket.create_server((HOST, port)):
        named = server(tmp_path / "server", port)
        with pytest.raises(StackError, match=f"port {port} is in use"):
            named.start()
    assert not named.is_running
    assert not (tmp_path / "server" / "output.log").exists()
