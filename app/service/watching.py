"""Watching: a snapshot first, then only what is newer, and of that only the latest.

Of a task nobody has asked for yet, only the newest state waits: memory is bounded, and a slow reader costs nobody else.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import UUID

from app.domain.task import Task
from app.security.principal import Principal
from app.service.status import Statuses
from app.store.subscriptions import Subscriptions


class Watching:
    """Follows tasks on behalf of their owners."""

    def __init__(self, *, statuses: Statuses, subscriptions: Subscriptions) -> None:
        self._statuses = statuses
        self._subscriptions = subscriptions

    @asynccontextmanager
    async def watch(self, task_id: UUID, *, principal: Principal) -> AsyncIterator[AsyncIterator[Task]]:
        """Follow a task until it has ended: its state as it is, then every newer one that the reader is in time for.

        Args:
            task_id: The task.
            principal: Who asks.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`; before anything is subscribed to.
            StoreUnavailable: Redis does not answer.
        """
        task = await self._statuses.read(task_id, principal=principal)
        latest = _Latest(task_id)
        async with (
            self._subscriptions.listening(task.owner_id, latest),
            aclosing(self._states(task_id, principal, latest)) as states,
        ):
            yield states

    async def _states(self, task_id: UUID, principal: Principal, latest: "_Latest") -> AsyncGenerator[Task]:
        seen = 0
        while True:
            if latest.must_read:
                latest.must_read = False
                latest.take(await self._statuses.read(task_id, principal=principal))
            task = latest.task
            if task is not None and task.seq > seen:
                seen = task.seq
                yield task
                if task.status.is_terminal:
                    return
            else:
                await latest.wait()


class _Latest:
    """The newest known state of one task."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        self.task: Task | None = None
        self.must_read = True
        self._changed = asyncio.Event()

    def take(self, task: Task) -> None:
        if self.task is None or task.seq > self.task.seq:
            self.task = task

    def published(self, task: Task) -> None:
        if task.id == self.task_id:
            self.take(task)
            self._changed.set()

    def interrupted(self) -> None:
        self.must_read = True
        self._changed.set()

    async def wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()
