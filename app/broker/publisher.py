"""Publisher: persistent, mandatory messages, each with its publisher confirm.

A caller awaits the confirm of its own message; whether several share a write is decided in here. A nack, a return and
a blocked broker each become an error of the domain; *unconfirmed* is an error of its own, since it may have arrived.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self
from uuid import UUID

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError

from app.broker.connection import BrokerConnection, open_channel
from app.broker.frames import Message
from app.broker.outbox import Outbox
from app.broker.topology import DEAD_QUEUE, WEBHOOK_QUEUE, WORK_EXCHANGE, delay_name, level_for
from app.domain.envelope import Envelope
from app.domain.errors import BrokerUnavailable, PublishUnconfirmed, QueueFull
from app.domain.moments import milliseconds
from app.domain.task import id_text

CONTENT_TYPE: Final = "application/vnd.longhaul.sealed"


class Letter(NamedTuple):
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
    not_before: datetime | None = None
    """When it is due, as far as its sender knew; None: at once."""


class Publisher:
    """Publishes over one channel of one connection; both are opened again when they were lost."""

    def __init__(self, connection: BrokerConnection, *, timeout: timedelta) -> None:
        self._connection = connection
        self._timeout = timeout.total_seconds()
        self._opening = asyncio.Lock()
        self._opened_on: AbstractConnection | None = None
        self._outbox: Outbox | None = None

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

    async def wake(self, wake_up: WakeUp) -> None:
        """Wake a sender of webhooks when it is due (it may be earlier); raises like `publish`."""
        due = wake_up.not_before
        wait = due - datetime.now(UTC) if due else timedelta(0)
        exchange = delay_name(level_for(wait)) if wait > timedelta(0) else WORK_EXCHANGE
        headers = {
            "attempt": wake_up.attempt,
            "is_shown": wake_up.is_shown,
            "not_before": milliseconds(due) if due else None,
        }
        message = Message(b"", message_id=wake_up.webhook_id, headers=headers)
        await self._publish(exchange, WEBHOOK_QUEUE, message)

    async def can_publish(self) -> bool:
        """Return whether the broker is there and takes messages."""
        return not self._connection.is_blocked

    async def _publish(self, exchange: str, routing_key: str, message: Message) -> None:
        if self._connection.current is None:
            raise BrokerUnavailable
        if self._connection.is_blocked:
            raise BrokerUnavailable("The message broker has raised an alarm and takes nothing; nothing was accepted.")
        outbox = self._open_outbox()
        if outbox is None:
            try:
                async with asyncio.timeout(self._timeout):
                    outbox = await self._opened()
            except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
                raise BrokerUnavailable from error
        try:
            await outbox.publish(message, exchange=exchange, routing_key=routing_key)
        except PublishError as error:  # returned: no queue is bound. It is a DeliveryError, too
            raise BrokerUnavailable("The queue does not exist; nothing was accepted.") from error
        except DeliveryError as error:  # a nack
            raise QueueFull from error
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:  # aiormq raises RuntimeError on a closed one
            raise PublishUnconfirmed from error

    def _open_outbox(self) -> Outbox | None:
        is_open = self._opened_on is self._connection.current and self._outbox is not None and not self._outbox.is_lost
        return self._outbox if is_open else None

    async def _opened(self) -> Outbox:
        async with self._opening:
            if outbox := self._open_outbox():  # somebody else has opened it meanwhile
                return outbox
            connection = self._connection.current
            if connection is None:
                raise ConnectionResetError("no connection")
            channel = await open_channel(connection, publisher_confirms=True)
            outbox = Outbox(channel, timeout=self._timeout, is_blocked=lambda: self._connection.is_blocked)
            self._opened_on, self._outbox = connection, outbox
            return outbox


def _message(letter: Letter, reason: str | None = None) -> Message:
    return Message(
        letter.sealed,
        message_id=letter.message_id,
        headers={
            "task_id": id_text(letter.task_id),
            "request_id": letter.request_id,
            "queue": letter.queue,
            "reason": reason,
        },
        type=letter.action,
        content_type=CONTENT_TYPE,
    )
