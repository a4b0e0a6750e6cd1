"""Quotas: sets right which tasks count as their owner's active ones.

A process that dies between counting a task and creating it, or between its end and counting it no more, leaves an id
too many; a Redis that was emptied has none. Neither is a wrong number: the ids are held against the tasks themselves.
"""

from collections import defaultdict
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.domain.moments import span_milliseconds
from app.service.publication import now_ms
from app.store.keys import SHARDS
from app.store.limits import OwnerLimits
from app.store.tasks import CREATED_TTL, TaskStore

KEYS_IN_A_ROUND: Final = 5000
STRETCH: Final = 500
GRACE: Final = CREATED_TTL + timedelta(seconds=30)
"""A submission, or a retry, counts its task before it creates it: so long nothing is concluded from its absence."""
UNFINISHED: Final = frozenset({"created", "PENDING", "PROCESSING"})


class Quotas:
    """Looks at the owners' active tasks, and at the living ones."""

    def __init__(self, tasks: TaskStore, limits: OwnerLimits, *, grace: timedelta = GRACE) -> None:
        self._tasks = tasks
        self._limits = limits
        self._grace_ms = span_milliseconds(grace)
        self._cursor = 0
        self._shard = 0
        self._offset = 0

    async def perform(self) -> None:
        """Look at a portion of both."""
        self._cursor, owners = await self._limits.owners(self._cursor, count=KEYS_IN_A_ROUND)
        for owner in owners:
            await self._release_what_has_ended(owner)
        await self._count_what_lives()

    async def _release_what_has_ended(self, owner: str) -> None:
        offset, before = 0, now_ms() - self._grace_ms
        while task_ids := await self._limits.counted(owner, before=before, offset=offset, limit=STRETCH):
            ended = [one.task_id for one in await self._tasks.symptoms(task_ids) if one.status not in UNFINISHED]
            for task_id in ended:
                await self._limits.release(owner, task_id)
            offset += len(task_ids) - len(ended)

    async def _count_what_lives(self) -> None:
        found = await self._tasks.living(self._shard, offset=self._offset, count=STRETCH)
        owners: dict[str, list[UUID]] = defaultdict(list)
        for one in await self._tasks.symptoms([task_id for task_id, _ in found]) if found else []:
            if one.owner and one.status in UNFINISHED:
                owners[one.owner].append(one.task_id)
        for owner, task_ids in owners.items():
            await self._limits.count(owner, task_ids)
        if len(found) == STRETCH:
            self._offset += STRETCH
        else:
            self._shard, self._offset = (self._shard + 1) % SHARDS, 0
