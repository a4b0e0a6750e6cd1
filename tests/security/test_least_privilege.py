"""Each role may do its work (every test's service runs as these users) and nothing else."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from app.broker import topology
from app.broker.connection import connect
from app.cli.admin import _declare
from app.domain.errors import BrokerUnavailable
from app.settings import Settings
from stack.servers import RabbitServer, RedisServer
from tests.support.service import api_environment, configuration, own_vhost

FORBIDDEN: Final = (
    "ACL LIST",
    "ACL SETUSER x on",
    "ACL WHOAMI",
    "BGREWRITEAOF",
    "BGSAVE",
    "BZPOPMIN longhaul:owner:{x}:active 1",
    "CLIENT KILL TYPE normal",
    "CLIENT LIST",
    "CLUSTER INFO",
    "CONFIG GET *",
    "CONFIG SET appendfsync no",
    "COPY longhaul:a longhaul:b",
    "DBSIZE",
    "DUMP longhaul:a",
    "EVAL return(1) 0",
    "FAILOVER",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION LIST",
    "KEYS *",
    "LATENCY DOCTOR",
    "LPUSH longhaul:a x",
    "MEMORY STATS",
    "MIGRATE 127.0.0.1 1 longhaul:a 0 1",
    "MODULE LIST",
    "MONITOR",
    "OBJECT ENCODING longhaul:a",
    "PUBSUB CHANNELS",
    "RANDOMKEY",
    "RENAME longhaul:a longhaul:b",
    "REPLICAOF NO ONE",
    "RESTORE longhaul:a 0 x",
    "SAVE",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "SHUTDOWN NOSAVE",
    "SLOWLOG GET",
    "SORT longhaul:a",
    "SWAPDB 0 1",
    # what is not ours
    "GET other:key",
    "HSET other:key a b",
    "DEL other:key",
    "PUBLISH other x",
    "SUBSCRIBE other",
    "PSUBSCRIBE *",
)
ONLY_A_WORKER: Final = ("SCAN 0", "XADD longhaul:a NOMKSTREAM * a b")


@pytest.mark.parametrize("command", [*FORBIDDEN, *ONLY_A_WORKER])
@pytest.mark.parametrize("role", ["api", "worker"])
async def test_redis_refuses_what_a_role_has_no_use_for(redis_server: RedisServer, role: str, command: str) -> None:
    url = redis_server.api_url if role == "api" else redis_server.service_url
    client: Any
    async with Redis.from_url(url) as client:
        if role == "worker" and command in ONLY_A_WORKER:
            await client.execute_command(*command.split())
            return
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command.split())


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_a_script_may_no_more_than_its_caller(redis_server: RedisServer, role: str) -> None:
    """Whoever may load scripts might load any: what they do is held against the same rights."""
    url = redis_server.api_url if role == "api" else redis_server.service_url
    async with Redis.from_url(url) as client:
        for command in ("'FLUSHALL'", "'GET', 'other:key'", "'KEYS', '*'", "'PUBLISH', 'other', 'x'"):
            name = await client.script_load(f"return redis.call({command})")
            with pytest.raises(ResponseError, match="The user executing the script can't"):
                await client.evalsha(name, 0)


Deed = Callable[[AbstractChannel], Awaitable[Any]]


async def _publish(channel: AbstractChannel, exchange: str) -> None:
    found = await channel.get_exchange(exchange, ensure=False)
    await found.publish(aio_pika.Message(b"x"), "work", mandatory=False)


async def _consume(channel: AbstractChannel) -> None:
    await (await channel.get_queue("work", ensure=False)).consume(_take)


async def _take(_: AbstractIncomingMessage) -> None:
    raise AssertionError("a message came")


REFUSED: Final[dict[str, Deed]] = {
    "consume": _consume,
    "get": lambda channel: _queue(channel, "get"),
    "purge": lambda channel: _queue(channel, "purge"),
    "delete a queue": lambda channel: channel.queue_delete("work"),
    "declare a queue": lambda channel: channel.declare_queue("another", durable=True),
    "declare an exchange": lambda channel: channel.declare_exchange("another"),
    "delete an exchange": lambda channel: channel.exchange_delete("longhaul"),
    "bind": lambda channel: _queue(channel, "bind", "longhaul", "elsewhere"),
    "unbind": lambda channel: _queue(channel, "unbind", "longhaul", "work"),
    "publish to the default exchange": lambda channel: channel.default_exchange.publish(aio_pika.Message(b"x"), "work"),
    "publish to amq.topic": lambda channel: _publish(channel, "amq.topic"),
    "a server-named queue": lambda channel: channel.declare_queue("", exclusive=True),
}
ALSO_REFUSED_TO_WORKERS: Final = ("publish to the default exchange", "publish to amq.topic")


async def _queue(channel: AbstractChannel, deed: str, *arguments: Any, **options: Any) -> None:
    await getattr(await channel.get_queue("work", ensure=False), deed)(*arguments, **options)


async def _dead_letter(channel: AbstractChannel) -> None:
    await (await channel.get_queue("dead", ensure=False)).get(fail=False)


@pytest.fixture(scope="module")
async def urls(rabbit_server: RabbitServer, redis_server: RedisServer) -> dict[str, str]:
    """The URL of each role, of a virtual host that the worker has declared everything in."""
    worker = own_vhost(rabbit_server)
    async with await connect(worker, name="test") as connection:
        assert await topology.declare(connection, {"work": 10}), "a worker may declare"
        await topology.put_birth_mark(connection)
    api = api_environment(redis_server, rabbit_server, worker)["LONGHAUL_AMQP_URL"]
    return {"worker": worker, "api": api}


@pytest.fixture
async def channel(urls: dict[str, str], role: str) -> AsyncIterator[AbstractChannel]:
    """A channel of the role."""
    async with await connect(urls[role], name="test") as connection:
        yield await connection.channel(publisher_confirms=True, on_return_raises=True)


@pytest.mark.parametrize(
    ("role", "deed"), [*(("api", deed) for deed in REFUSED), *(("worker", deed) for deed in ALSO_REFUSED_TO_WORKERS)]
)
async def test_rabbitmq_refuses_what_a_role_has_no_use_for(channel: AbstractChannel, role: str, deed: str) -> None:
    with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
        await REFUSED[deed](channel)


NEEDED: Final[dict[str, tuple[str, dict[str, str], Deed]]] = {
    "publishing": ("api", {"write": r"^delay\.[0-9]+s$"}, lambda channel: _publish(channel, "longhaul")),
    "publishing for later": ("api", {"write": "^longhaul$"}, lambda channel: _publish(channel, "delay.1s")),
    "seeing dead letters": ("api", {"read": "^$"}, _dead_letter),
    "declaring": ("worker", {"configure": "^$"}, lambda channel: channel.declare_exchange("longhaul", durable=True)),
    "binding": ("worker", {"write": "^$"}, lambda channel: _queue(channel, "bind", "longhaul", "work")),
    "consuming": ("worker", {"read": "^$"}, lambda channel: _queue(channel, "get", fail=False)),
}
"""What a role needs a right for: the role, the right cut down to what remains without it, and the deed."""
SMALLER: Final = "smaller"
"""The password of those who have a role's rights, less one."""


@pytest.fixture(scope="module")
def smaller_urls(urls: dict[str, str], rabbit_server: RabbitServer) -> dict[str, str]:
    """For each deed the URL of a user who has the rights of the role, less the one that the deed needs."""
    vhost = urls["worker"].rpartition("/")[2]
    rights = {one["user"]: one for one in rabbit_server.permissions(vhost)}
    users = {deed: f"smaller{number}" for number, deed in enumerate(NEEDED)}
    file = rabbit_server.directory / f"{vhost}-smaller.json"
    permissions = [rights[role] | less | {"user": users[deed]} for deed, (role, less, _) in NEEDED.items()]
    accounts = [{"name": user, "password": SMALLER, "tags": ""} for user in users.values()]
    file.write_text(json.dumps({"users": accounts, "permissions": permissions}))
    rabbit_server.ctl("import_definitions", str(file))
    place = urls["worker"].rpartition("@")[2]
    return {deed: f"amqp://{user}:{SMALLER}@{place}" for deed, user in users.items()}


@pytest.mark.parametrize("deed", NEEDED)
async def test_each_right_at_rabbitmq_is_needed(urls: dict[str, str], smaller_urls: dict[str, str], deed: str) -> None:
    role, _, do = NEEDED[deed]
    async with await connect(urls[role], name="test") as connection:
        await do(await connection.channel())
    async with await connect(smaller_urls[deed], name="test") as connection:
        with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
            await do(await connection.channel())


def test_no_right_at_rabbitmq_is_for_more_than_our_topology(rabbit_server: RabbitServer) -> None:
    exchanges = {topology.WORK_EXCHANGE, *map(topology.delay_name, topology.DELAY_LEVELS)}
    fixed = {topology.DEAD_QUEUE, topology.BIRTH_QUEUE, topology.WEBHOOK_QUEUE, *exchanges}
    configured = {"report_gen", "a", "a" * 63, "x.y-z_0"}
    nobodys = {"", "amq.topic", "amq.direct", "amq.gen-x", "amq.", "UPPER", "a b", "a/b", "é", "a" * 64, "_a", "0"}
    rights = {one["user"]: one for one in rabbit_server.permissions("any")}

    def names(role: str, right: str) -> set[str]:
        return {name for name in fixed | configured | nobodys if re.search(rights[role][right], name)}

    assert names("api", "configure") <= {""}  # an empty name is nothing to configure
    assert names("api", "write") == exchanges
    assert names("api", "read") == {topology.DEAD_QUEUE}
    for right in ("configure", "write", "read"):
        assert names("worker", right) == fixed | configured


@pytest.mark.parametrize("role", ["api"])
async def test_the_api_may_take_dead_letters_in_hand(channel: AbstractChannel) -> None:
    """For operators: nothing that waits in another queue may be seen by it."""
    await _dead_letter(channel)


@pytest.mark.parametrize("role", ["api"])
async def test_the_api_may_publish_and_ask_for_depths(channel: AbstractChannel, urls: dict[str, str]) -> None:
    await _publish(channel, "longhaul")
    await _publish(channel, "delay.1s")
    async with await connect(urls["api"], name="test") as connection:
        assert await topology.is_declared(connection, {"work": 10})
        assert (await topology.ready_counts(connection, ["work"]))["work"] >= 1


async def test_declaring_as_somebody_who_may_not_is_one_line(
    urls: dict[str, str], redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = Settings.model_validate(configuration(redis_server.url, urls["api"], tmp_path, 1))
    with pytest.raises(BrokerUnavailable, match="ACCESS_REFUSED"):
        await _declare(settings, urls["api"], nobody_runs=False)
