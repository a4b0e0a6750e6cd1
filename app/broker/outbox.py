"""Outbox of one channel: messages of a turn of the event loop leave in one write, and each has its publisher confirm.

aiormq's own publish encodes each message frame by frame, waits for a drain, and puts a timeout around each confirm.
Here one timer looks after all confirms that are waited for. What a slow broker leaves in our buffer is bounded by who
waits for confirms.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NamedTuple

from aiormq import Channel
from aiormq.abc import ChannelFrame

from app.broker.frames import Message, frames_of

LOOK_SECONDS: Final = 0.03
"""How often it is asked whether the confirms that are waited for can still come; nearly all come sooner."""


class _Awaited(NamedTuple):
    confirm: asyncio.Future[Any]
    deadline: float


class Outbox:
    """Publishes over one channel that is nobody else's."""

    def __init__(self, channel: Channel, *, timeout: float, is_blocked: Callable[[], bool]) -> None:
        """Take the channel, in confirm mode.

        Args:
            channel: The channel.
            timeout: Seconds that a confirm is waited for.
            is_blocked: Whether the broker has raised an alarm: it confirms nothing before that is over.
        """
        self._channel = channel
        self._frame_max = channel.connection.connection_tune.frame_max
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._is_blocked = is_blocked
        self._gathered: list[bytes] = []
        self._awaited: deque[_Awaited] = deque()
        self._look_again: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the channel is gone."""
        return self._channel.is_closed

    async def publish(self, message: Message, *, exchange: str, routing_key: str) -> None:
        """Publish, and wait for the confirm.

        Raises:
            DeliveryError: A nack, or (PublishError) nothing was bound that takes it.
            TimeoutError: No confirm in time, or none can come: the broker is blocked, or the channel went.
            AMQPError, OSError, RuntimeError: The channel had gone.
        """
        frames = frames_of(
            message,
            exchange=exchange,
            routing_key=routing_key,
            channel=self._channel.number,
            frame_max=self._frame_max,
        )
        tag, confirm = self._confirm_of(message.message_id)
        self._gathered.append(frames)
        if self._leaving is None:
            self._leaving = self._loop.create_task(self._leave(), name="outbox", context=_NOBODYS)
        try:
            await confirm
        finally:
            tags = self._channel.message_id_delivery_tag
            if tags.get(message.message_id) == tag:  # a copy under the same id may be under way
                del tags[message.message_id]

    def _confirm_of(self, message_id: str) -> tuple[int, asyncio.Future[Any]]:
        """Count the channel's next message, as the broker does: its number, and what its confirm will resolve."""
        channel = self._channel
        confirm = self._loop.create_future()  # the channel's own would have three callbacks called, each in a turn
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = confirm
        channel.message_id_delivery_tag[message_id] = channel.delivery_tag
        self._awaited.append(_Awaited(confirm, self._loop.time() + self._timeout))
        if self._look_again is None:
            self._look_again = self._loop.call_later(LOOK_SECONDS, self._look, context=_NOBODYS)
        return channel.delivery_tag, confirm

    async def _leave(self) -> None:
        try:
            while self._gathered:
                gathered, self._gathered = self._gathered, []
                await self._channel.write_queue.put(ChannelFrame(payload=b"".join(gathered), should_close=False))
        finally:
            self._leaving = None

    def _look(self) -> None:
        """Give up the confirms that cannot come any more."""
        self._look_again = None
        now, none_comes = self._loop.time(), self.is_lost or self._is_blocked()
        while self._awaited and (self._awaited[0].confirm.done() or none_comes or self._awaited[0].deadline <= now):
            confirm = self._awaited.popleft().confirm
            with contextlib.suppress(asyncio.InvalidStateError):
                confirm.set_exception(TimeoutError())
        if self._awaited:
            self._look_again = self._loop.call_later(LOOK_SECONDS, self._look, context=_NOBODYS)


_NOBODYS: Final = Context()
"""A write belongs to no request: the first caller's id has no business in the others' work."""
