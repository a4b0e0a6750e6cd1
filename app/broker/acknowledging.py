"""Acknowledgements of one channel: those of a turn of the event loop leave together, in as few frames as can be.

A message is acknowledged when its task has ended, and nobody waits for that to arrive: what does not is delivered
again, and dropped at its claim.
"""

import asyncio
import contextlib
from typing import Final

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.abc import AbstractChannel

GONE: Final = (AMQPError, ChannelInvalidStateError, OSError, RuntimeError)
"""What a channel raises that is gone: the broker has its messages back already."""


class Acknowledger:
    """Acknowledges the deliveries of one channel, whose tags rise from 1 without a gap."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._below = 0
        """Up to this tag everything is dealt with."""
        self._done: set[int] = set()
        """Tags above it that are dealt with."""
        self._pending: set[int] = set()
        """Tags to be acknowledged now."""
        self._flushing: asyncio.Task[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the channel is gone."""
        return self._channel.is_closed

    def acknowledge(self, tag: int) -> None:
        """Acknowledge a delivery at the end of this turn of the loop."""
        self._pending.add(tag)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="acknowledgements")

    async def give_back(self, tag: int) -> None:
        """Return a delivery to its queue, to be delivered again at once."""
        with contextlib.suppress(*GONE):
            await self._channel.basic_nack(tag, requeue=True)
        self._done.add(tag)  # only now: no `multiple` may have covered it before

    async def _flush(self) -> None:
        try:
            while self._pending:
                pending, self._pending = self._pending, set()
                for tag, multiple in self._frames(pending):
                    with contextlib.suppress(*GONE):
                        await self._channel.basic_ack(tag, multiple=multiple, wait=False)
        finally:
            self._flushing = None

    def _frames(self, pending: set[int]) -> list[tuple[int, bool]]:
        """Return tags to name, each with whether all before it are meant, too.

        What follows without a gap on what is dealt with needs one frame, and what stands behind a task that still runs
        one each. A tag that the broker has had back must not be the one that is named.
        """
        self._done |= pending
        covers = 0
        while self._below + 1 in self._done:
            self._below += 1
            self._done.remove(self._below)
            if self._below in pending:
                covers = self._below
        single = [(tag, False) for tag in sorted(pending) if tag > covers]
        return [(covers, True), *single] if covers else single
