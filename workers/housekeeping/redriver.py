"""Redriver: sees to it that every living task has a message. What is lost singly is found here, by its age.

A task waits for its message; that may be in a queue, in a worker's hands, or parked for later. If none of them has it,
nothing in Redis shows that: only time does. So a waiting task is given a new message when its queue has been seen empty
since the last one was published; a running one, when its lease has expired and nobody has taken it over. One copy too
many does no harm: copies converge at their claim. Each new message doubles the patience with that task.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from app.archive.archive import Archive, EndedTask, Forgotten
from app.archive.pauses import Pauses
from app.broker.connection import BrokerConnection
from app.broker.publisher import Letter, Publisher
from app.broker.topology import ready_counts
from app.domain.errors import LonghaulError, PublishUnconfirmed, Unavailable
from app.domain.moments import span_milliseconds
from app.observability.crash_points import crash_point
from app.observability.logging import get_log
from app.security.sealing import Sealer
from app.service.publication import now_ms
from app.store.keys import SHARDS
from app.store.replies import AskRow, Redrive, Symptoms
from app.store.tasks import TaskStore

STRETCH: Final = 500
"""How many living tasks of a shard are looked at in one round: the next round goes on from there."""
AT_ONCE: Final = 32
TAKE_OVER: Final = timedelta(seconds=5)
"""How long an expired lease is left to the message that should come by itself."""
SETTLING: Final = timedelta(seconds=5)
LONGEST_PATIENCE: Final = timedelta(hours=1)

log = get_log("housekeeping")


class Redriver:
    """Gives living tasks new messages."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        archive: Archive,
        sealer: Sealer,
        publisher: Publisher,
        connection: BrokerConnection,
        queues: Sequence[str],
        pauses: Pauses,
        patience: timedelta,
    ) -> None:
        self._tasks = tasks
        self._archive = archive
        self._sealer = sealer
        self._publisher = publisher
        self._connection = connection
        self._queues = queues
        self._pauses = pauses
        self._patience_ms = span_milliseconds(patience)
        self._seen_empty: dict[str, int] = defaultdict(int)
        self._seen_paused: dict[str, int] = defaultdict(int)
        self._offsets: dict[int, int] = defaultdict(int)

    async def perform(self) -> None:
        """Look at a stretch of every shard's living tasks, and give new messages to those that need one.

        Not while their queue is paused: their messages wait there, and the time of that is not held against them.
        """
        paused = await self._pauses.all()
        self._seen_paused.update(dict.fromkeys(paused, now_ms()))
        await self._look_at_queues()
        for shard in range(SHARDS):
            found = await self._tasks.living(shard, offset=self._offsets[shard], count=STRETCH)
            self._offsets[shard] = self._offsets[shard] + STRETCH if len(found) == STRETCH else 0
            published = dict(found)
            symptoms = await self._tasks.symptoms(list(published)) if published else []
            due = [one for one in symptoms if one.queue not in paused and self._is_due(one, published[one.task_id])]
            await self._all(due, everything=False)

    async def redrive_everything(self) -> tuple[int, list[UUID]]:
        """After RabbitMQ was emptied: a new message for every living task.

        Returns:
            How many living tasks there were, and which of them have no new message, since a server did not take it.
        """
        count, left = 0, []
        for shard in range(SHARDS):
            # All at once: who is given a message goes to the end of the list, and who came after it would be missed.
            ids = [task_id for task_id, _ in await self._tasks.living(shard)]
            count += len(ids)
            left += await self.redrive(ids)
        return count, left

    async def redrive(self, task_ids: Sequence[UUID]) -> list[UUID]:
        """Give these tasks new messages, if they live; return those that a server did not take one for."""
        left = []
        for start in range(0, len(task_ids), STRETCH):
            symptoms = await self._tasks.symptoms(task_ids[start : start + STRETCH])
            left += await self._all(symptoms, everything=True)
        return left

    async def _look_at_queues(self) -> None:
        connection = self._connection.current
        if connection is not None:
            now = now_ms()
            for queue, ready in (await ready_counts(connection, self._queues)).items():
                if ready == 0:
                    self._seen_empty[queue] = now

    def _is_due(self, task: Symptoms, published: int) -> bool:
        now = now_ms()
        if task.status == "PROCESSING":
            return task.lease_until is None or task.lease_until + span_milliseconds(TAKE_OVER) < now
        if task.status != "PENDING" or task.lease_until is not None:
            return task.status != "created"  # ended: off the list; or PENDING by an operator's hand, who left a lease
        since = max(published, task.not_before, self._seen_paused[task.queue])
        patience = min(self._patience_ms << min(task.redrives, 20), span_milliseconds(LONGEST_PATIENCE))
        waited = now - since
        if waited < patience:
            return False
        # While the queue is never empty, its message may just be waiting its turn.
        seen_empty = self._seen_empty[task.queue] > since + span_milliseconds(SETTLING)
        return seen_empty or waited > span_milliseconds(LONGEST_PATIENCE)

    async def _all(self, tasks: Sequence[Symptoms], *, everything: bool) -> list[UUID]:
        """Look after several at once; return those for whom a server did not do its part."""
        slots = asyncio.Semaphore(AT_ONCE)
        left = []

        async def one(task: Symptoms) -> None:
            async with slots:
                if not await self._redrive(task, everything=everything):
                    left.append(task.task_id)

        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(one(task))
        return left

    async def _redrive(self, task: Symptoms, *, everything: bool) -> bool:
        copy_id = uuid4().hex
        try:
            answer = await self._tasks.redrive(task.task_id, copy_id=copy_id, everything=everything)
            if isinstance(answer, AskRow):
                if await self._has_ended(task.task_id, answer.run):
                    return True
                answer = await self._tasks.redrive(task.task_id, copy_id=copy_id, everything=everything, asked=answer)
            # Once more for a waiting one, which may have ended long ago: Redis may be back with older data than it had.
            if isinstance(answer, Redrive) and not await self._has_ended(task.task_id, answer.run):
                await self._publish(task, answer, copy_id)
        except LonghaulError as error:  # one task's trouble must not keep the others from their messages
            log.warning("a task could not be given a new message", task_id=task.task_id, reason=error.detail)
            return not isinstance(error, Unavailable | PublishUnconfirmed)  # an order that does not open never will
        return True

    async def _has_ended(self, task_id: UUID, run: int) -> bool:
        match await self._archive.find(task_id, run=run):
            case EndedTask(task=ended):
                await self._tasks.settle(ended)
            case Forgotten(owner_id=owner):
                await self._tasks.forget(task_id, owner, again=True)
            case None:
                return False
        return True

    async def _publish(self, task: Symptoms, redrive: Redrive, copy_id: str) -> None:
        order = self._sealer.open_order(redrive.envelope, task_id=task.task_id, action=task.action)
        envelope = order.succeeded_by(
            copy_id,
            run=redrive.run,
            attempt=redrive.attempt,
            charged=redrive.charged,
            not_before=now_ms() + span_milliseconds(redrive.wait) if redrive.wait else 0,
            checkpoint=self._sealer.open_json(redrive.checkpoint, task_id=task.task_id, action=task.action),
        )
        letter = Letter.of(envelope, self._sealer.seal_order(envelope))
        if redrive.wait > timedelta(0):
            await self._publisher.publish_later(letter, redrive.wait)
        else:
            await self._publisher.publish(letter)
        crash_point("after_redrive")
        await self._tasks.promote(task.task_id, redrive.run, copy_id, replaces="")
        log.info("given a new message", task_id=task.task_id, queue=envelope.queue, status=task.status)
