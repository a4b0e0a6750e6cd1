"""Guard: the one confirmed message that carries a running task, in hand as a delivery, or as a copy in the queue.

No message is acknowledged before the task's end is written, or a confirmed copy has taken its place.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from secrets import token_hex
from typing import Final, TypeVar

from app.broker.delivery import Delivery
from app.broker.publisher import Letter
from app.domain.envelope import Envelope
from app.domain.errors import BrokerUnavailable, LeaseLost, PublishUnconfirmed, QueueFull, StoreUnavailable
from app.observability.crash_points import crash_point
from app.observability.logging import get_log
from workers.desk import Desk
from workers.lease import Lease

RETRY_SECONDS: Final = 1.0

Answer = TypeVar("Answer")

log = get_log("worker")


class Guard:
    """What guards one attempt's task."""

    def __init__(self, desk: Desk, delivery: Delivery, lease: Lease) -> None:
        self._desk = desk
        self._delivery: Delivery | None = delivery
        self._message_id = lease.envelope.message_id
        """Of the message in hand, or of the copy that was left in its place."""
        self._lease = lease
        self._changing = asyncio.Lock()

    async def hand_over(self) -> None:
        """Leave a copy and acknowledge the delivery, before the broker's patience with an open one ends.

        The copy finds a living lease and is parked again and again, or a dead one, and takes the task over.
        """
        async with self._changing:
            envelope, copy_id = self._lease.envelope, token_hex(16)
            try:
                await self._until_answered(
                    lambda: self._desk.tasks.hand_over(envelope.task_id, envelope.run, self._lease.token, copy_id)
                )
            except LeaseLost:
                return  # the attempt finds out by itself
            crash_point("before_hand_over")
            if await self._replace(self._lease.envelope.succeeded_by(copy_id), self._desk.tasks.lease):
                self._lease.envelope = self._lease.envelope.succeeded_by(copy_id)
                log.info("handed over: the job goes on without holding its delivery")

    async def replace_by(self, copy: Envelope, wait: timedelta) -> None:
        """Publish a copy for later, make it the guard, and acknowledge the delivery."""
        async with self._changing:
            if not await self._replace(copy, wait):
                await self.give_back()  # it guards the task still

    async def _replace(self, copy: Envelope, wait: timedelta) -> bool:
        """Put a confirmed copy in the place of the message in hand; False if that one must stay."""
        letter = Letter.of(copy, self._lease.sealed(copy))
        publisher = self._desk.publisher
        if wait > timedelta(0):
            await self._until_answered(lambda: publisher.publish_later(letter, wait))
        else:
            await self._until_answered(lambda: publisher.publish(letter))
        crash_point("after_copy")
        promote = partial(self._desk.tasks.promote, copy.task_id, copy.run, copy.message_id, replaces=self._message_id)
        replaced = await self._until_answered(promote)
        crash_point("after_promote")
        if replaced:
            await self._acknowledge()
            self._message_id = copy.message_id
        return replaced

    async def bury(self, reason: str) -> None:
        """Leave a copy among the dead letters; the message in hand stays until the end is written."""
        envelope = self._lease.envelope
        letter = Letter.of(envelope, self._lease.sealed(envelope))
        await self._until_answered(lambda: self._desk.publisher.bury(letter, reason))

    async def acknowledge(self) -> None:
        """The end is written: the message may go."""
        async with self._changing:
            await self._acknowledge()

    async def _acknowledge(self) -> None:
        if self._delivery is not None:
            self._delivery.acknowledge()
            self._delivery = None

    async def give_back(self) -> None:
        """The task is another worker's: the broker delivers the message again, and its claim decides."""
        if self._delivery is not None:
            await self._delivery.give_back()

    async def _until_answered(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until the server answers, for as long as the task may be ours."""
        while True:
            try:
                return await ask()
            except (BrokerUnavailable, QueueFull, PublishUnconfirmed, StoreUnavailable):
                if self._lease.lost.is_set() and (self._delivery is None or self._delivery.is_lost):
                    raise LeaseLost from None
                await asyncio.sleep(RETRY_SECONDS)
