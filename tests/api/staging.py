"""Tasks in the state that a test wants, made by the real store in the service's own Redis; no worker knows of them."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from redis.asyncio import Redis

from app.domain.envelope import Envelope
from app.domain.lifecycle import TaskStatus
from app.domain.log_line import LogLevel, LogRecord
from app.domain.problem import Problem
from app.domain.task import Owner, ResultFile
from app.results.store import ResultStore
from app.settings import Settings
from app.store.keys import live_key, logs_key, owner_id, owner_tasks_key, shard_of, task_key
from app.store.listing import OwnerLists
from app.store.replies import Claimed, Created
from app.store.task_logs import TaskLogs
from app.store.tasks import TaskStore

HOUR = timedelta(hours=1)
FAILURE = Problem(type="/problems/handler-error", title="Handler error", detail="The disk is full.")


class Staging:
    """Makes tasks of one owner, and removes them."""

    def __init__(self, redis: Redis, settings: Settings, subject: str, directory: Path) -> None:
        self.store = TaskStore(redis, lease=HOUR, status_ttl=HOUR)
        self.lists = OwnerLists(redis)
        self.logs = TaskLogs(redis)
        self.results = ResultStore(settings.results_url)
        self.owner = Owner(settings.jwt.issuer, subject)
        self.queue = "bench"
        """Where the next ones wait."""
        self._redis = redis
        self._directory = directory
        self._made: list[UUID] = []
        self._claims: dict[UUID, Claimed] = {}

    async def pending(
        self,
        *,
        task_id: UUID | None = None,
        action: str = "noop",
        labels: tuple[str, ...] = (),
        created_at: int | None = None,
        message_id: str = "m",
    ) -> UUID:
        """Promise a task that nobody will run."""
        envelope = self.envelope(
            task_id=task_id, action=action, labels=labels, created_at=created_at, message_id=message_id
        )
        await self._promise(envelope)
        return envelope.task_id

    async def created(self) -> UUID:
        """Begin a task that is not promised yet: nobody may see it."""
        envelope = self.envelope()
        await self.store.create(envelope, b"sealed")
        return envelope.task_id

    async def processing(self) -> tuple[UUID, int]:
        """Return a task that an attempt is at, and the attempt's token."""
        envelope = self.envelope()
        await self._promise(envelope)
        claim = await self.store.claim(envelope, b"sealed", checkpoint=None, worker="the test", copy_id="copy")
        assert isinstance(claim, Claimed)
        self._claims[envelope.task_id] = claim
        return envelope.task_id, claim.token

    async def failed(self) -> UUID:
        """Return a task that has FAILED."""
        task_id, _ = await self.processing()
        await self._end(task_id, TaskStatus.FAILED, error=FAILURE)
        return task_id

    async def completed(
        self, content: bytes | None = None, *, filename: str = "result.bin", content_type: str = "application/x-test"
    ) -> UUID:
        """Return a task that is COMPLETED, with a file of this content."""
        task_id, token = await self.processing()
        file = None
        if content is not None:
            file = await self.file(task_id, token, content, filename=filename, content_type=content_type)
        await self._end(task_id, TaskStatus.COMPLETED, result=file)
        return task_id

    async def end(self, task_id: UUID, status: TaskStatus = TaskStatus.COMPLETED) -> None:
        """End a task that is processing."""
        await self._end(task_id, status)

    async def log(self, task_id: UUID, token: int, *messages: str, after: int = 0) -> int:
        """Write lines as the task's handler; return the number of the last."""
        records = [LogRecord(time.time_ns() // 1_000_000, LogLevel.INFO, message) for message in messages]
        line = await self.logs.append(task_id, 1, token, records, after=after)
        assert isinstance(line, int)
        return line

    async def _promise(self, envelope: Envelope) -> None:
        created = await self.store.create(envelope, b"sealed")
        assert isinstance(created, Created)
        await self.lists.place(envelope)
        assert await self.store.queued(envelope, created.epoch)

    async def _end(
        self, task_id: UUID, status: TaskStatus, *, result: ResultFile | None = None, error: Problem | None = None
    ) -> None:
        now, task = datetime.now(UTC), self._claims[task_id].task
        progress = 100 if status is TaskStatus.COMPLETED else task.progress
        expires = now + HOUR if result else None
        await self.store.settle(
            task._replace(
                status=status,
                seq=task.seq + 16,
                progress=progress,
                finished_at=now,
                expires_at=expires,
                result=result,
                error=error,
            )
        )

    async def file(self, task_id: UUID, token: int, content: bytes, *, filename: str, content_type: str) -> ResultFile:
        """Store a result file."""
        path = self._directory / f"{task_id}"
        path.write_bytes(content)
        stored = await self.results.put(task_id, token, path, content_type=content_type, filename="x")
        return replace(stored, filename=filename)

    def envelope(
        self,
        *,
        task_id: UUID | None = None,
        action: str = "noop",
        labels: tuple[str, ...] = (),
        created_at: int | None = None,
        message_id: str = "m",
        fingerprint: str | None = None,
    ) -> Envelope:
        """Return an order; the task is removed at the end of the test."""
        envelope = Envelope(
            task_id=task_id or uuid4(),
            message_id=message_id,
            action=action,
            queue=self.queue,
            owner=self.owner,
            params={"id": 1},
            labels=labels,
            max_attempts=5,
            created_at=created_at or time.time_ns() // 1_000_000,
            fingerprint=fingerprint,
        )
        self._made.append(envelope.task_id)
        return envelope

    async def clean_up(self) -> None:
        """Remove every task that was made here."""
        keys = [key(task_id) for task_id in self._made for key in (task_key, logs_key)]
        await self._redis.delete(owner_tasks_key(owner_id(self.owner)), *keys)
        for task_id in self._made:
            await self._redis.zrem(live_key(shard_of(task_id)), str(task_id))
