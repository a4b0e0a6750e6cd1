"""Consumer: one queue, on a channel of its own; deliveries become executions, as many at once as there are slots.

What was prefetched beyond the slots waits in a list, without a task of its own.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aio_pika.exceptions import AMQPError
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from app.broker.acknowledging import Acknowledger
from app.broker.connection import BrokerConnection, open_channel
from app.broker.delivery import Delivery
from app.broker.publisher import Publisher
from app.cancelling import is_cancelled
from app.domain.errors import LonghaulError
from app.observability.logging import get_log
from app.settings import QueueSettings
from workers.pauses import Gate

REOPEN_SECONDS: Final = 1.0
CANCELLED_SECONDS: Final = 3.0
"""How long executions that are cancelled may take to end."""

Value = TypeVar("Value")

log = get_log("consumer")


class Consumer:
    """Consumes one queue until it is told to stop. Running executions outlive a lost channel."""

    def __init__(
        self,
        queue: str,
        settings: QueueSettings,
        *,
        gate: Gate,
        connection: BrokerConnection,
        publisher: Publisher,
        execute: Callable[[Delivery], Awaitable[None]],
        stopping: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._gate = gate
        self._connection = connection
        self._publisher = publisher
        self._execute = execute
        self._stopping = stopping
        self._waiting: deque[Delivery] = deque()
        self._is_paused = False
        """Whether nothing more comes, and what has come and not begun goes back."""
        self._loop = asyncio.get_running_loop()
        self._executions: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Consume; after `stopping` is set, give back what has not begun and wait for what runs.

        Cancelling this cancels what runs, and waits for that a moment: what it uses is about to be closed.
        """
        try:
            await self._consume_until_stopped()
            await self._give_back_what_waits()
            if self._executions:
                await asyncio.wait(self._executions)
        except asyncio.CancelledError:
            for execution in self._executions:
                execution.cancel()
            if self._executions:
                await asyncio.wait(self._executions, timeout=CANCELLED_SECONDS)
            raise

    async def _consume_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._consume()
            except ChannelNotFoundEntity:
                log.warning("the queue is not declared: run `longhaul admin declare`", queue=self._queue)
            except (AMQPError, OSError, RuntimeError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                log.warning("the consumer's channel was lost", queue=self._queue, error=type(error).__name__)
            await self._stop_or(asyncio.sleep(REOPEN_SECONDS * random.uniform(0.5, 1.5)))  # noqa: S311

    async def _consume(self) -> None:
        """Consume over one channel, until it is closed, the broker cancels the consumer, or the engine stops.

        While the queue is paused there is no consumer, but the channel stays open: what runs acknowledges over it.
        """
        connection = await self._stop_or(self._connection.connected())
        if connection is None:
            return
        channel = await self._stop_or(open_channel(connection, publisher_confirms=False))
        if channel is None:
            return
        over = asyncio.Event()
        channel.closing.add_done_callback(lambda _: over.set())
        acknowledger = Acknowledger(channel)

        async def cancelled(_: object) -> None:
            log.warning("the broker has cancelled the consumer", queue=self._queue)
            over.set()

        async def received(message: DeliveredMessage) -> None:
            self._take(Delivery(message, self._queue, acknowledger=acknowledger, publisher=self._publisher))

        # As when the queue was deleted. The channel stays open: what runs acknowledges over it.
        channel.on_consumer_cancel_callbacks.add(cancelled)
        await channel.basic_qos(prefetch_count=self._settings.prefetch)
        while True:
            await self._stop_or(self._gate.opened.wait(), over)
            if over.is_set() or self._stopping.is_set():
                return
            self._is_paused = False
            consuming = await channel.basic_consume(self._queue, received)
            log.info("consuming", queue=self._queue, prefetch=self._settings.prefetch, slots=self._settings.concurrency)
            await self._stop_or(self._gate.shut.wait(), over)
            if over.is_set():
                return
            assert consuming.consumer_tag is not None
            await channel.basic_cancel(consuming.consumer_tag)
            if self._gate.shut.is_set():
                self._is_paused = True  # not sooner: what is given back would come again
                await self._give_back_what_waits()
                log.info("paused", queue=self._queue)

    async def _stop_or(self, awaitable: Awaitable[Value], *events: asyncio.Event) -> Value | None:
        """Wait for something, or until the engine stops or one of these happens."""
        work = asyncio.ensure_future(awaitable)
        signs = [asyncio.create_task(event.wait()) for event in (self._stopping, *events)]
        try:
            await asyncio.wait([work, *signs], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sign in signs:
                sign.cancel()
            if not work.done():
                work.cancel()
        return work.result() if work.done() and not work.cancelled() else None

    def _take(self, delivery: Delivery) -> None:
        """Begin an execution, or let the delivery wait for a slot."""
        if self._stopping.is_set() or self._is_paused or len(self._executions) < self._settings.concurrency:
            self._begin(delivery)
        else:
            self._waiting.append(delivery)

    def _begin(self, delivery: Delivery) -> None:
        execution = self._loop.create_task(self._run(delivery), name=f"execution {delivery.message_id}")
        self._executions.add(execution)
        execution.add_done_callback(self._ended)

    def _ended(self, execution: asyncio.Task[None]) -> None:
        """Give its slot to who has waited longest, unless that one's channel is gone."""
        self._executions.discard(execution)
        while self._waiting:
            delivery = self._waiting.popleft()
            if not delivery.is_lost:  # else it comes again
                self._begin(delivery)
                return

    async def _run(self, delivery: Delivery) -> None:
        try:
            if self._stopping.is_set() or self._is_paused:
                await delivery.give_back()  # it has not begun
            else:
                await self._execute(delivery)
        except LonghaulError as error:  # a server stayed away until the delivery was lost: it comes again
            log.warning("an execution was given up", reason=error.detail)
            await delivery.give_back()
        except Exception:
            log.exception("an execution failed")
            await asyncio.sleep(REOPEN_SECONDS)  # or a message that we cannot handle would spin
            await delivery.give_back()

    async def _give_back_what_waits(self) -> None:
        while self._waiting:
            await self._waiting.popleft().give_back()
