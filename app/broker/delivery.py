"""Delivery: one message in hand. It ends acknowledged, parked (a copy takes its place), buried, or given back."""

import contextlib
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from app.broker.publisher import Letter, Publisher, WakeUp
from app.domain.errors import Malformed

# An acknowledgement on a channel that is gone says nothing to anybody: the broker has the message back already.
_GONE = (AMQPError, ChannelInvalidStateError, OSError, RuntimeError)


class Delivery:
    """A message from a work queue, not acknowledged yet."""

    def __init__(self, message: AbstractIncomingMessage, queue: str, publisher: Publisher) -> None:
        self._message = message
        self._queue = queue
        self._publisher = publisher

    @property
    def is_lost(self) -> bool:
        """Whether its channel is gone: the broker will deliver it again, and this one is worth nothing."""
        try:
            return self._message.channel.is_closed
        except ChannelInvalidStateError:  # aio-pika has let go of it
            return True

    @property
    def request_id(self) -> str | None:
        """The id of the request that submitted the task."""
        value = self._message.headers.get("request_id")
        return value if isinstance(value, str) else None

    def letter(self) -> Letter:
        """Read it.

        Raises:
            Malformed: It is not one of ours.
        """
        try:
            task_id = UUID(str(self._message.headers["task_id"]))
        except (KeyError, ValueError) as error:
            raise Malformed("The message does not name its task.") from error
        return Letter(
            task_id=task_id,
            message_id=self._message.message_id or "",
            action=self._message.type or "",
            queue=self._queue,
            sealed=self._message.body,
            request_id=self.request_id,
        )

    def wake_up(self) -> WakeUp:
        """Read it as one from the queue `webhooks`.

        Raises:
            Malformed: It is not one of ours.
        """
        attempt = self._message.headers.get("attempt")
        if not self._message.message_id or not isinstance(attempt, int):
            raise Malformed("The message does not name its webhook.")
        return WakeUp(self._message.message_id, attempt, self._message.headers.get("is_shown") is True)

    async def acknowledge(self) -> None:
        """Tell the broker that the message may go."""
        with contextlib.suppress(*_GONE):
            await self._message.ack()

    async def give_back(self) -> None:
        """Return it to the queue, to be delivered again at once."""
        with contextlib.suppress(*_GONE):
            await self._message.nack(requeue=True)

    async def bury(self, reason: str) -> None:
        """Move it to the dead letters: the copy is confirmed before this one is acknowledged."""
        try:
            letter = self.letter()
        except Malformed:
            letter = Letter(UUID(int=0), self._message.message_id or "", "", self._queue, self._message.body)
        await self._publisher.bury(letter, reason)
        await self.acknowledge()
