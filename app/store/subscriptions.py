"""Subscriptions: one Pub/Sub connection per process, its channels counted.

Whoever watches an owner's tasks shares one subscription to that owner's channel; what comes is read once, and only
where somebody watches that task. Pub/Sub is at most once and loses everything while a connection is down; so after each
reconnection every listener is told to read a snapshot again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, Protocol
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.domain.log_line import LogLine
from app.domain.task import Task
from app.observability.logging import get_log
from app.settings import DEFAULT_TLS, TlsSettings
from app.store.connection import tls_options, with_honest_connections, with_one_life
from app.store.keys import owner_channel
from app.store.records import Published

RECONNECT_SECONDS: Final = 0.5
READ_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 15.0
CONFIRM_SECONDS: Final = 5.0

log = get_log("store")


class Listener(Protocol):
    """Somebody who watches; all calls must return at once."""

    def published(self, task: Task) -> None:
        """Take a new state of one of the owner's tasks."""

    def logged(self, lines: list[LogLine]) -> None:
        """Take new lines of the log of one of the owner's tasks, in order."""

    def interrupted(self) -> None:
        """Know that something may have been missed: a snapshot must be read again."""


class Subscriptions:
    """The process's subscription connection. `run` must be running for anything to arrive."""

    def __init__(self, url: str, tls: TlsSettings = DEFAULT_TLS) -> None:
        self._url = url
        self._options = tls_options(url, tls)
        self._pubsub: PubSub | None = None
        self._listeners: dict[bytes, dict[UUID | None, set[Listener]]] = {}
        self._confirmed: dict[bytes, asyncio.Event] = {}
        self._interrupted: set[bytes] = set()
        self._wanted = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self, owner: str, listener: Listener, *, task_id: UUID | None = None) -> AsyncIterator[None]:
        """Listen to an owner's channel; nothing that is published inside of the block is missed.

        Args:
            owner: The owner's digest.
            listener: Who is told.
            task_id: The one task that it is about; all of the owner's when omitted.

        Raises:
            StoreUnavailable: Redis does not confirm the subscription in time.
        """
        channel = owner_channel(owner).encode()
        self._listeners.setdefault(channel, {}).setdefault(task_id, set()).add(listener)
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        self._wanted.set()
        try:
            await self._subscribe(channel, confirmed)
            yield
        finally:
            by_task = self._listeners[channel]
            by_task[task_id].discard(listener)
            if not by_task[task_id]:
                del by_task[task_id]
            if not by_task:
                del self._listeners[channel], self._confirmed[channel]
                self._interrupted.discard(channel)
                if self._pubsub is not None:
                    with contextlib.suppress(RedisError, OSError):
                        await _to_its_end(self._pubsub.unsubscribe(channel))

    async def _subscribe(self, channel: bytes, confirmed: asyncio.Event) -> None:
        try:
            if self._pubsub is not None and not confirmed.is_set():
                # Otherwise the next connection subscribes to it.
                await _to_its_end(self._pubsub.subscribe(channel))
            await asyncio.wait_for(confirmed.wait(), CONFIRM_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable from error

    async def run(self) -> None:
        """Read what is published and hand it on, for ever; connects anew after a failure."""
        while True:
            await self._wanted.wait()
            try:
                await self._read_one_connection()
            except (RedisError, OSError) as error:
                log.warning("the subscription connection was lost", error=type(error).__name__)
                self._interrupted.update(channel for channel, event in self._confirmed.items() if event.is_set())
                for event in self._confirmed.values():
                    event.clear()
            await asyncio.sleep(RECONNECT_SECONDS)

    def _client(self) -> Redis:
        """Return a client for one connection. Were it made anew unseen, what is published meanwhile would be missed."""
        no_retry = Retry(NoBackoff(), 0)
        redis = Redis.from_url(
            self._url, retry=no_retry, socket_connect_timeout=2, health_check_interval=0, **self._options
        )
        return with_one_life(with_honest_connections(redis))

    async def _read_one_connection(self) -> None:
        async with self._client() as redis, redis.pubsub() as pubsub:
            await pubsub.connect()
            # From here on whoever comes subscribes by himself; nothing is awaited before the others are.
            self._pubsub = pubsub
            try:
                if self._listeners:
                    await pubsub.subscribe(*self._listeners)
                heard = asyncio.get_running_loop().time()
                while True:
                    message = await pubsub.get_message(timeout=READ_SECONDS)
                    now = asyncio.get_running_loop().time()
                    if message is not None:
                        heard = now
                        self._hand_on(message)
                    elif now - heard > SILENCE_SECONDS:
                        raise ConnectionResetError("no answer to a ping")
                    else:
                        await pubsub.ping()  # a dead peer is only seen by asking it
            finally:
                self._pubsub = None

    def _hand_on(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        by_task = self._listeners.get(channel, {})
        if message["type"] == "subscribe" and channel in self._confirmed:
            self._confirmed[channel].set()
            if channel in self._interrupted:
                self._interrupted.discard(channel)
                for listener in [one for listeners in by_task.values() for one in listeners]:
                    listener.interrupted()
        elif message["type"] == "unsubscribe" and channel in self._confirmed and self._confirmed[channel].is_set():
            # Somebody left before he was confirmed, and another took that for his own: the right one is still to come.
            self._confirmed[channel].clear()
            self._interrupted.add(channel)
        elif message["type"] == "message":
            published = Published(message["data"])
            listeners = [*by_task.get(published.task_id, ()), *by_task.get(None, ())]
            if published.is_log and listeners:
                lines = published.lines()
                for listener in listeners:
                    listener.logged(lines)
            elif listeners and (task := published.task()) is not None:
                for listener in listeners:
                    listener.published(task)


async def _to_its_end(command: Awaitable[Any]) -> None:
    """Await a command that goes on when its caller is cancelled: redis-py would close the connection of all."""
    sent = asyncio.ensure_future(command)
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())  # of a caller who has left nobody asks
    await asyncio.shield(sent)
