"""Publisher: persistent, mandatory messages, each with its publisher confirm.

A caller awaits the confirm of its own message; whether several share a write is decided in here. A nack, a return and
a blocked broker each become an error of the domain; *unconfirmed* is an error of its own, since it may have arrived.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self, cast
from uuid import UUID

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError
from aiormq import Channel

from app.broker.connection import BrokerConnection
from app.broker.topology import DEAD_QUEUE, WEBHOOK_QUEUE, WORK_EXCHANGE, delay_name, level_for
from app.domain.envelope import Envelope
from app.domain.errors import BrokerUnavailable, PublishUnconfirmed, QueueFull

CONTENT_TYPE: Final = "application/vnd.longhaul.sealed"
CONFIRM_SECONDS: Final = 0.03
"""So long a confirm is waited for before it is asked whether one can come; nearly all come sooner."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What goes over the wire: the sealed envelope, and what is needed before it can be opened."""

    task_id: UUID
    message_id: str
    action: str
    queue: str
    sealed: bytes
    request_id: str | None = None

    @classmethod
    def of(cls, envelope: Envelope, sealed: bytes) -> Self:
        """Return the letter that carries an order; `sealed` is the same order, sealed."""
        return cls(
            task_id=envelope.task_id,
            message_id=envelope.message_id,
            action=envelope.action,
            queue=envelope.queue,
            sealed=sealed,
            request_id=envelope.request_id,
        )


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Tells a sender that a webhook may be due; all else stands in the archive."""

    webhook_id: str
    attempt: int
    """Which attempt it is for: when that one has been made, this is of no use any more."""
    is_shown: bool = False
    """Whether Redis is known to show what is to be told."""


class Publisher:
    """Publishes over one channel of one connection; both are opened again when they were lost."""

    def __init__(self, connection: BrokerConnection, *, timeout: timedelta) -> None:
        self._connection = connection
        self._timeout = timeout.total_seconds()
        self._opening = asyncio.Lock()
        self._opened: tuple[AbstractConnection, AbstractChannel] | None = None

    async def publish(self, letter: Letter) -> None:
        """Put a letter into its work queue; when this returns, the broker has it on disk.

        Raises:
            BrokerUnavailable: It was not sent, or no queue took it.
            QueueFull: The broker refused it.
            PublishUnconfirmed: It was sent, and may or may not have arrived, or may arrive later.
        """
        await self._publish(WORK_EXCHANGE, letter.queue, _message(letter))

    async def publish_later(self, letter: Letter, wait: timedelta) -> None:
        """Put a letter into a delay queue, from which it comes back to its work queue; raises like `publish`.

        Args:
            letter: The message.
            wait: After how long it is wanted. It may come back earlier, and is then to be parked again.
        """
        await self._publish(delay_name(level_for(wait)), letter.queue, _message(letter))

    async def bury(self, letter: Letter, reason: str) -> None:
        """Put a letter into the dead letter queue, with the reason; raises like `publish`."""
        await self._publish(WORK_EXCHANGE, DEAD_QUEUE, _message(letter, reason))

    async def wake(self, wake_up: WakeUp, wait: timedelta = timedelta(0)) -> None:
        """Wake a sender of webhooks, now or after `wait` (it may be earlier); raises like `publish`."""
        exchange = delay_name(level_for(wait)) if wait > timedelta(0) else WORK_EXCHANGE
        message = Message(
            b"",
            message_id=wake_up.webhook_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            timestamp=datetime.now(UTC),
            headers={"attempt": wake_up.attempt, "is_shown": wake_up.is_shown},
        )
        await self._publish(exchange, WEBHOOK_QUEUE, message)

    async def can_publish(self) -> bool:
        """Return whether the broker is there and takes messages."""
        return not self._connection.is_blocked

    async def _publish(self, exchange: str, routing_key: str, message: Message) -> None:
        if self._connection.current is None:
            raise BrokerUnavailable
        if self._connection.is_blocked:
            raise BrokerUnavailable("The message broker has raised an alarm and takes nothing; nothing was accepted.")
        sent = False
        try:
            async with asyncio.timeout(self._timeout) as patience:
                channel = await self._channel()
                sent = True
                with self._none_while_blocked(patience):
                    # Not aio-pika's publish: it waits for a drain of its own under the channel's lock, so that each
                    # message is a write. What a slow broker leaves in our buffer is bounded by who waits for confirms.
                    await channel.basic_publish(
                        message.body,
                        exchange=exchange,
                        routing_key=routing_key,
                        properties=message.properties,
                        mandatory=True,
                        wait=False,
                    )
        except PublishError as error:  # returned: no queue is bound. It is a DeliveryError, too
            raise BrokerUnavailable("The queue does not exist; nothing was accepted.") from error
        except DeliveryError as error:  # a nack
            raise QueueFull from error
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:  # aiormq raises RuntimeError on a closed one
            raise (PublishUnconfirmed if sent else BrokerUnavailable) from error

    @contextlib.contextmanager
    def _none_while_blocked(self, patience: asyncio.Timeout) -> Iterator[None]:
        """End a wait for a confirm as soon as the broker is blocked: nothing is confirmed before its alarm is over."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look(wait: float) -> None:
            nonlocal timer
            if patience.expired():
                return
            if self._connection.is_blocked:
                patience.reschedule(loop.time())
            else:
                timer = loop.call_later(wait, look, 2 * wait)

        timer = loop.call_later(CONFIRM_SECONDS, look, CONFIRM_SECONDS)
        try:
            yield
        finally:
            timer.cancel()

    async def _channel(self) -> Channel:
        async with self._opening:
            connection = self._connection.current
            if connection is None:
                raise ConnectionResetError("no connection")
            if self._opened is None or self._opened[0] is not connection or self._opened[1].is_closed:
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                self._opened = connection, channel
            return cast("Channel", await self._opened[1].get_underlay_channel())


def _message(letter: Letter, reason: str | None = None) -> Message:
    headers = {"task_id": str(letter.task_id), "request_id": letter.request_id, "queue": letter.queue, "reason": reason}
    return Message(
        letter.sealed,
        message_id=letter.message_id,
        type=letter.action,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=datetime.now(UTC),
        headers={name: value for name, value in headers.items() if value is not None},
    )
