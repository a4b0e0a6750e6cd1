"""Connections to RabbitMQ: publishing and consuming apart, each kept up by a task of its own.

Apart, because a broker in alarm stops reading from connections that publish, while acknowledgements must still go out.
Nothing here waits for a reconnection unless it is asked to: a publisher wants a refusal at once, a consumer patience.
"""

import asyncio
import random
from typing import Final, cast

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq import Channel

from app.domain.errors import BrokerUnavailable, ConfigurationError
from app.observability.causes import cause_of
from app.observability.logging import get_log
from app.settings import DEFAULT_TLS, TlsSettings

OLDEST: Final = (3, 10)
CONNECT_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 0.5
FRAMES_OF_CONFIRMS: Final = 10
HEARTBEAT_SECONDS: Final = 10
"""aiormq gives up a silent peer after (heartbeat + 1) x 3: 33 s, instead of three minutes by its default."""

log = get_log("broker")


async def connect(url: str, *, name: str, tls: TlsSettings = DEFAULT_TLS) -> AbstractConnection:
    """Open one connection, which is not kept up.

    Raises:
        BrokerUnavailable: RabbitMQ does not answer, refuses the user, or has a certificate that is not trusted.
        ConfigurationError: It is older than 3.10, or a file of `tls` cannot be used.
    """
    context = tls.context() if url.startswith("amqps:") else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await aio_pika.connect(
                url, client_properties={"connection_name": name}, heartbeat=HEARTBEAT_SECONDS, ssl_context=context
            )
    except (aio_pika.exceptions.AMQPError, OSError, TimeoutError) as error:
        raise BrokerUnavailable(f"RabbitMQ does not answer: {cause_of(error)}") from error
    try:
        _check_version(connection)
    except ConfigurationError:
        await connection.close()
        raise
    return connection


async def open_channel(connection: AbstractConnection, *, publisher_confirms: bool) -> Channel:
    """Open a channel of aiormq's: aio-pika's would make an object and a task more for each message.

    One that consumes may hold all frames that have come, which its prefetch bounds: by aiormq's default it holds ten,
    so that a busy loop took three messages a turn, however many the broker had sent. One that publishes holds ten:
    each confirm of many looks through all that are waited for.

    Raises:
        AMQPError, OSError, RuntimeError: The connection is lost.
    """
    transport = connection.transport
    if transport is None:
        raise ConnectionResetError("no connection")
    channel = await transport.connection.channel(
        publisher_confirms=publisher_confirms,
        on_return_raises=publisher_confirms,
        frame_buffer_size=FRAMES_OF_CONFIRMS if publisher_confirms else 0,
    )
    return cast("Channel", channel)


def _check_version(connection: AbstractConnection) -> None:
    transport = connection.transport
    version = str(transport.connection.server_properties.get("version", "0")) if transport else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ConfigurationError(f"RabbitMQ {version} is too old: 3.10 or newer is needed")


class BrokerConnection:
    """A connection that comes back. `run` must be running; whoever needs one asks for the current one each time."""

    def __init__(self, url: str, *, name: str, tls: TlsSettings = DEFAULT_TLS) -> None:
        self._url = url
        self._tls = tls
        self.name = name
        self.why_away = "RabbitMQ does not answer."
        """Of the last try that failed."""
        self._current: AbstractConnection | None = None
        self._up = asyncio.Event()

    @property
    def current(self) -> AbstractConnection | None:
        """The open connection, or None while there is none."""
        return self._current

    async def connected(self) -> AbstractConnection:
        """Wait until there is a connection, however long that takes."""
        while self._current is None:
            await self._up.wait()
        return self._current

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has stopped taking messages (a memory or disk alarm), or is away.

        RabbitMQ tells a connection so at its first publish in an alarm, which it takes in hand and does not confirm.
        aiormq keeps the news to itself: what can be seen is whether waiting for its readiness would wait at all.
        """
        connection = self._current
        if connection is None or connection.transport is None:
            return True
        readiness = connection.transport.ready().__await__()
        try:
            next(readiness)
        except StopIteration:
            return False
        finally:
            readiness.close()
        return True

    async def run(self) -> None:
        """Connect, and connect again, for ever."""
        told = False
        try:
            while True:
                try:
                    connection = await connect(self._url, name=self.name, tls=self._tls)
                except BrokerUnavailable as error:
                    self.why_away = error.detail
                    if not told:
                        log.warning("RabbitMQ is away", connection=self.name, reason=error.detail)
                    told = True
                else:
                    log.info("connected to RabbitMQ", connection=self.name)
                    told = False
                    self._current = connection
                    self._up.set()
                    await self._until_closed(connection)
                    log.warning("the connection to RabbitMQ was lost", connection=self.name)
                await asyncio.sleep(RECONNECT_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  # spreads reconnections
        finally:
            if self._current is not None:
                await self._current.close()

    async def _until_closed(self, connection: AbstractConnection) -> None:
        closed = asyncio.Event()
        connection.close_callbacks.add(lambda *_: closed.set())
        if not connection.is_closed:
            await closed.wait()
        self._current = None
        self._up.clear()
