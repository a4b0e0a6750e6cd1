"""Workers: each worker-engine says every few seconds that it lives, and what it is at; who falls silent is forgotten.

For operators only: nothing is decided by it. Who may write to a task is the lease's matter.
"""

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from time import time
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.store.keys import WORKERS_KEY, worker_key

HEARTBEAT: Final = timedelta(seconds=2)
SILENCE: Final = timedelta(seconds=10)
"""After how long without a heartbeat a worker counts as gone."""


@dataclass(frozen=True, slots=True)
class ServedQueue:
    """A queue that a worker serves: how many jobs of it run, and how many may at once."""

    name: str
    running: int
    slots: int


@dataclass(frozen=True, slots=True)
class CurrentTask:
    """A task that a worker is at. `started_at` is this attempt's, in ms."""

    task_id: str
    action: str
    queue: str
    attempt: int
    progress: int
    started_at: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself. Times are ms since the epoch."""

    id: str
    host: str
    pid: int
    version: str
    started_at: int
    seen_at: int
    rss_bytes: int
    """Of the engine and all its children."""
    children: int
    queues: list[ServedQueue]
    tasks: list[CurrentTask]
    """A hundred at most; `queues` has the true numbers."""


class Workers:
    """The living workers. Each method raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def report(self, worker: WorkerReport) -> None:
        """Say that a worker lives."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(worker_key(worker.id), json.dumps(asdict(worker)), px=SILENCE)
        pipeline.zadd(WORKERS_KEY, {worker.id: time()})
        pipeline.zremrangebyscore(WORKERS_KEY, "-inf", time() - SILENCE.total_seconds())
        pipeline.expire(WORKERS_KEY, SILENCE)
        await self._execute(pipeline)

    async def leave(self, worker_id: str) -> None:
        """Forget a worker that stops."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.delete(worker_key(worker_id))
        pipeline.zrem(WORKERS_KEY, worker_id)
        await self._execute(pipeline)

    async def all(self) -> list[WorkerReport]:
        """Return what each living worker has said last, the oldest worker first."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(WORKERS_KEY, 0, -1)
        (ids,) = await self._execute(pipeline)
        if not ids:
            return []
        pipeline.mget([worker_key(worker_id.decode()) for worker_id in ids])
        (texts,) = await self._execute(pipeline)
        found = [worker for text in texts if text is not None and (worker := _read(text)) is not None]
        return sorted(found, key=lambda one: (one.started_at, one.id))

    @staticmethod
    async def _execute(pipeline: Any) -> list[Any]:
        try:
            done: list[Any] = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return done


def _read(text: bytes) -> WorkerReport | None:
    """Read a heartbeat; None for one of another version that says too little or something else."""
    values = json.loads(text)
    try:
        values["queues"] = [ServedQueue(**queue) for queue in values["queues"]]
        values["tasks"] = [CurrentTask(**task) for task in values["tasks"]]
        return WorkerReport(**values)
    except (TypeError, KeyError):
        return None
