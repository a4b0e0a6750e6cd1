"""Census: what all living tasks are at, over all owners: for operators, never for a caller.

A shard's tasks are counted inside of Redis, a stretch at a time: 200,000 living tasks would be as many round trips, or
tens of megabytes, and so they are some hundred short scripts. Nothing here changes anything.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.domain.moments import milliseconds, moment
from app.store.keys import SHARDS, task_key
from app.store.lua import Script

STRETCH: Final = 2000
"""Tasks that one script looks at: about 5 ms, in which Redis does nothing else."""

Stall = Literal["lease-expired", "message-lost"]


@dataclass(slots=True)
class Population:
    """The living tasks of one queue."""

    due: int = 0
    """PENDING, and their time has come."""
    parked: int = 0
    """PENDING, and not to begin before a later time."""
    running: int = 0
    new: int = 0
    """Of all these, how many were created since the asked time."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """A living task that does not get on."""

    task_id: UUID
    reason: Stall
    since: datetime


@dataclass(slots=True)
class Count:
    """What a census finds."""

    queues: dict[str, Population] = field(default_factory=dict)
    stalled: list[Stalled] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works at a task, and until when it is his without a further beat."""

    worker: str
    lease_until: datetime


class Census:
    """Looks at all living tasks. Each method raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._census = Script(redis, "census")
        self._newest = Script(redis, "newest")

    async def count(self, *, since: datetime) -> Count:
        """Count the living tasks of every queue that has any; those created at `since` or later once more, as new."""
        found = Count()
        for shard in range(SHARDS):
            offset, seen = 0, STRETCH
            while seen == STRETCH:
                seen, queues, stalled = await self._census.on_shard(
                    shard, offset=offset, count=STRETCH, since=milliseconds(since)
                )
                offset += seen
                _add(found, queues, stalled)
        return found

    async def newest(
        self,
        *,
        before: tuple[int, str] | None,
        statuses: Collection[str],
        actions: Collection[str],
        labels: Collection[str],
        limit: int,
    ) -> list[UUID]:
        """Return the ids of living tasks, newest `created_at` first, those of one millisecond by falling id.

        Args:
            before: Only what comes behind this place: a `created_at` in ms, and an id.
            statuses: Any of these; all if empty.
            actions: Any of these; all if empty.
            labels: All of these.
            limit: How many at most.
        """
        named: dict[str, str | int] = {
            "before": before[0] if before else "",
            "before_id": before[1] if before else "",
            "statuses": json.dumps(list(statuses)),
            "actions": json.dumps(list(actions)),
            "labels": json.dumps(list(labels)),
            "count": limit,
        }
        shards = await asyncio.gather(*(self._newest_of(shard, named) for shard in range(SHARDS)))
        places = set().union(*shards)  # a task that is published anew moves on, and may be seen twice
        return [UUID(task_id) for _, task_id in sorted(places, reverse=True)[:limit]]

    async def _newest_of(self, shard: int, named: Mapping[str, str | int]) -> set[tuple[int, str]]:
        places: set[tuple[int, str]] = set()
        offset, seen = 0, STRETCH
        while seen == STRETCH:
            seen, found = await self._newest.on_shard(shard, offset=offset, stretch=STRETCH, **named)
            offset += seen
            places |= {(int(created), task_id.decode()) for created, task_id in zip(*[iter(found)] * 2, strict=True)}
        return places

    async def holders(self, task_ids: Sequence[UUID]) -> list[Holder | None]:
        """Return who works at each of these tasks, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hmget(task_key(task_id), "worker", "lease_until")
        try:
            rows: Any = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return [
            Holder(worker.decode(), moment(int(until))) if worker is not None and until is not None else None
            for worker, until in rows
        ]


def _add(found: Count, queues: list[Any], stalled: list[Any]) -> None:
    for name, due, parked, running, new in zip(*[iter(queues)] * 5, strict=True):
        counts = found.queues.setdefault(name.decode(), Population())
        counts.due += due
        counts.parked += parked
        counts.running += running
        counts.new += new
    for task_id, reason, since in zip(*[iter(stalled)] * 3, strict=True):
        found.stalled.append(Stalled(UUID(task_id.decode()), cast("Stall", reason.decode()), moment(int(float(since)))))
