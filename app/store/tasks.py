"""TaskStore: one method for each script, and the reads.

A caller awaits the outcome of its own task; whether calls share a round trip is decided in here. Envelopes and
checkpoints come and go sealed: the store never sees a key.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID, uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.envelope import Envelope
from app.domain.errors import LeaseLost, StoreUnavailable
from app.domain.lifecycle import TaskStatus
from app.domain.problem import Problem
from app.domain.task import ResultFile, Task
from app.store.keys import PUBLIC_FIELDS, owner_id, owner_tasks_key, task_key
from app.store.lua import Argument, Script

CREATED_TTL: Final = timedelta(seconds=60)
TOMBSTONE_TTL: Final = timedelta(hours=24)
OWNER_LIST_TTL: Final = timedelta(days=90)
INVISIBLE: Final = frozenset({b"created", b"aborted"})

Values = list[bytes | None]
Held = Literal["HELD", "LOST", "MISSING"]


@dataclass(frozen=True, slots=True)
class Created:
    """The task was made, or (`by_other`) is being made by a parallel request with the same key. Publish and confirm."""

    by_other: bool


@dataclass(frozen=True, slots=True)
class Exists:
    """The task is there already."""

    task: Task


@dataclass(frozen=True, slots=True)
class Claimed:
    """The task is the worker's, for one attempt, under a token above every earlier one of this task."""

    attempt: int
    token: int
    checkpoint: bytes | None
    """Sealed."""
    progress: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The task is the worker's, but only to be ended: its attempts are used up."""

    attempt: int
    token: int


@dataclass(frozen=True, slots=True)
class Park:
    """Another worker holds it: publish the copy `copy_id` for later, promote it, acknowledge the message in hand."""

    wait: timedelta
    copy_id: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The message is of no use any more: acknowledge it."""

    reason: str


Claim = Claimed | Exhausted | Park | Drop


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended the task."""

    status: TaskStatus
    result: ResultFile | None = None
    error: Problem | None = None


class TaskStore:
    """The tasks in Redis. Every method may be repeated; each raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis, *, lease: timedelta, status_ttl: timedelta, result_ttl: timedelta) -> None:
        """Take the client and the times.

        Args:
            redis: A client that leaves bytes as they are.
            lease: How long a claim holds without a beat; whole milliseconds.
            status_ttl: How long Redis shows an ended task.
            result_ttl: How long a result file is kept.
        """
        self._redis = redis
        self.lease = lease
        self._lease_ms = _ms(lease)
        self._status_ttl_ms = _ms(status_ttl)
        self._result_ttl_ms = _ms(result_ttl)
        self._create = Script(redis, "create")
        self._queued = Script(redis, "queued")
        self._abort = Script(redis, "abort")
        self._claim = Script(redis, "claim")
        self._promote = Script(redis, "promote")
        self._beat = Script(redis, "beat")
        self._commit = Script(redis, "commit")
        self._settle = Script(redis, "settle")
        self._release = Script(redis, "release")

    # --- submission

    async def create(self, envelope: Envelope, sealed: bytes) -> Created | Exists:
        """Begin a task, invisible until `queued`; left alone, it goes after 60 s.

        Args:
            envelope: The order.
            sealed: The same, sealed: kept until the end, so that the message can be made again.
        """
        await self._add_to_owner_list(envelope)
        reply, values = await self._create(
            task_key(envelope.task_id),
            uuid4().hex,
            envelope.message_id,
            _ms(CREATED_TTL),
            *_order_fields(envelope, sealed),
        )
        if reply == b"EXISTS":
            return Exists(_task(envelope.task_id, values))
        return Created(by_other=reply == b"STARTED")

    async def queued(self, task_id: UUID, message_id: str) -> Task | None:
        """Promise the task, now that the broker has confirmed this message.

        Returns:
            The task as it is now; None if Redis knows none (any more): the message will rebuild it.
        """
        reply = await self._queued(task_key(task_id), message_id)
        return _task(task_id, reply[1]) if reply[0] == b"ALIVE" else None

    async def abort(self, task_id: UUID, message_id: str) -> Literal["ABORTED", "MISSING"] | Task:
        """Take back a task whose message may not have been taken by the broker.

        Returns:
            ABORTED: should the message arrive all the same, it will be dropped. MISSING: nothing is known, it may run.
            A task: it is alive, through this message or another.
        """
        reply = await self._abort(task_key(task_id), message_id, _ms(TOMBSTONE_TTL))
        if reply[0] == b"ALIVE":
            return _task(task_id, reply[1])
        return "ABORTED" if reply[0] == b"ABORTED" else "MISSING"

    # --- execution

    async def claim(self, envelope: Envelope, sealed: bytes, *, worker: str) -> Claim:
        """Take the task for one attempt: one round trip, on Redis' time; a repetition gives the same answer.

        A task that Redis has forgotten is rebuilt from the message.

        Args:
            envelope: What the message in hand carries; its `message_id` is held against the guard.
            sealed: The same, sealed.
            worker: Who asks; shown to operators.

        Fencing tokens: M. Kleppmann, "How to do distributed locking", 2016.
        """
        copy_id = uuid4().hex
        key = task_key(envelope.task_id)
        arguments: list[Argument] = [
            envelope.run,
            envelope.message_id,
            worker,
            self._lease_ms,
            uuid4().hex,
            copy_id,
        ]
        kind, *rest = await self._claim(key, *arguments)
        if kind == b"MISSING":
            await self._add_to_owner_list(envelope)
            kind, *rest = await self._claim(key, *arguments, *_order_fields(envelope, sealed))
        match kind:
            case b"CLAIMED":
                attempt, token, checkpoint, values = rest
                progress = int(values[PUBLIC_FIELDS.index("progress")])
                return Claimed(int(attempt), int(token), checkpoint or None, progress)
            case b"EXHAUSTED":
                return Exhausted(int(rest[0]), int(rest[1]))
            case b"PARK":
                return Park(timedelta(milliseconds=int(rest[0])), copy_id)
            case _:
                return Drop(rest[0].decode())

    async def promote(self, task_id: UUID, copy_id: str) -> None:
        """Make a confirmed copy the task's guard. The message that it replaces may be acknowledged afterwards."""
        await self._promote(task_key(task_id), copy_id)

    async def beat(self, task_id: UUID, token: int, *, progress: int, message: str | None) -> Held:
        """Keep the lease and store the newest progress; it never falls."""
        reply = await self._beat(task_key(task_id), token, self._lease_ms, progress, message or "")
        return cast("Held", reply.decode())

    async def commit(self, task_id: UUID, token: int, checkpoint: bytes, *, progress: int) -> None:
        """Store a sealed checkpoint, durably: it is on disk when this returns (`appendfsync always`).

        Raises:
            LeaseLost: Another worker has the task, it has ended, or Redis forgot it. Nothing was stored.
        """
        reply = await self._commit(task_key(task_id), token, self._lease_ms, checkpoint, progress)
        if reply != b"HELD":
            raise LeaseLost

    async def settle(self, task_id: UUID, token: int, end: End) -> Task:
        """End the task.

        Raises:
            LeaseLost: As for `commit`.
        """
        reply = await self._settle(
            task_key(task_id),
            token,
            end.status,
            self._status_ttl_ms,
            _result_json(end.result),
            end.error.model_dump_json(exclude_none=True) if end.error else "",
            self._result_ttl_ms,
        )
        if reply[0] != b"SETTLED":
            raise LeaseLost
        return _task(task_id, reply[1])

    async def release(self, task_id: UUID, token: int) -> None:
        """Give the task back, PENDING and uncharged. The caller returns its message to the queue.

        Raises:
            LeaseLost: As for `commit`.
        """
        if await self._release(task_key(task_id), token) != b"RELEASED":
            raise LeaseLost

    # --- reading

    async def find(self, task_id: UUID) -> Task | None:
        """Return a task that callers may see, whoever's it is; None if there is none."""
        return (await self.find_many([task_id]))[0]

    async def find_many(self, task_ids: list[UUID]) -> list[Task | None]:
        """Return several tasks, in one round trip, in the order of their ids."""
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for task_id in task_ids:
                pipeline.hmget(task_key(task_id), *PUBLIC_FIELDS)
            rows: list[Values] = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return [visible_task(task_id, values) for task_id, values in zip(task_ids, rows, strict=True)]

    async def owned_ids(self, owner: str, *, newest: int | None, offset: int, count: int) -> list[tuple[UUID, int]]:
        """Return a stretch of an owner's list: ids with their `created_at` in ms, newest first, then by falling id.

        Args:
            owner: The owner's digest.
            newest: Only what was created at this millisecond or before; None for all.
            offset: How many of these to pass over.
            count: How many to return at most.
        """
        try:
            found: Any = await self._redis.zrange(
                owner_tasks_key(owner),
                "+inf" if newest is None else newest,
                "-inf",
                desc=True,
                byscore=True,
                offset=offset,
                num=count,
                withscores=True,
            )
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return [(UUID(member.decode()), int(score)) for member, score in found]

    async def forget_ids(self, owner: str, task_ids: list[UUID]) -> None:
        """Take ids out of an owner's list whose tasks have expired."""
        try:
            await self._redis.zrem(owner_tasks_key(owner), *map(str, task_ids))
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def _add_to_owner_list(self, envelope: Envelope) -> None:
        """List the id before the task is made: a crash in between leaves an id too many, never a task unlisted."""
        key = owner_tasks_key(owner_id(envelope.owner))
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zadd(key, {str(envelope.task_id): envelope.created_at}, nx=True)
        pipeline.expire(key, OWNER_LIST_TTL)
        try:
            await asyncio.shield(pipeline.execute())
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error


def _order_fields(envelope: Envelope, sealed: bytes) -> list[Argument]:
    fields: dict[str, Argument | None] = {
        "owner": owner_id(envelope.owner),
        "action": envelope.action,
        "queue": envelope.queue,
        "run": envelope.run,
        "max_attempts": envelope.max_attempts,
        "labels": json.dumps(envelope.labels) if envelope.labels else None,
        "created_at": envelope.created_at,
        "request_id": envelope.request_id,
        "fingerprint": envelope.fingerprint,
        "envelope": sealed,
    }
    return [part for name, value in fields.items() if value is not None for part in (name, value)]


def visible_task(task_id: UUID, values: Values) -> Task | None:
    """Read the public fields of a hash; None where there is nothing that a caller may see."""
    status = values[PUBLIC_FIELDS.index("status")]
    return None if status is None or status in INVISIBLE else _task(task_id, values)


def _task(task_id: UUID, values: Values) -> Task:
    fields: dict[str, str] = {
        name: value.decode() for name, value in zip(PUBLIC_FIELDS, values, strict=True) if value is not None
    }
    status = fields["status"]
    return Task(
        id=task_id,
        owner_id=fields["owner"],
        action=fields["action"],
        queue=fields["queue"],
        status=TaskStatus.PENDING if status.encode() in INVISIBLE else TaskStatus(status),
        seq=int(fields["seq"]),
        run=int(fields["run"]),
        attempt=int(fields["attempt"]),
        max_attempts=int(fields["max_attempts"]),
        progress=int(fields["progress"]),
        message=fields.get("message") or None,
        labels=tuple(json.loads(fields["labels"])) if "labels" in fields else (),
        created_at=_moment(int(fields["created_at"])),
        started_at=_moment(int(fields["started_at"])) if "started_at" in fields else None,
        finished_at=_moment(int(fields["finished_at"])) if "finished_at" in fields else None,
        expires_at=_moment(int(fields["expires_at"])) if "expires_at" in fields else None,
        result=ResultFile(**json.loads(fields["result"])) if "result" in fields else None,
        error=Problem.model_validate_json(fields["error"]) if "error" in fields else None,
        fingerprint=fields.get("fingerprint"),
    )


def _result_json(result: ResultFile | None) -> str:
    if result is None:
        return ""
    names = ("key", "size", "content_type", "filename", "sha256")
    return json.dumps({name: getattr(result, name) for name in names})


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def published_task(message: bytes) -> Task | None:
    """Read what `change` in prelude.lua publishes: the hash's key and its public fields."""
    key, values = json.loads(message)
    task_id = UUID(key.rpartition(":")[2])
    return visible_task(task_id, [value.encode() if value else None for value in values])  # a nil comes as false


def pending_task(envelope: Envelope, *, seq: int) -> Task:
    """Return the task that a message will rebuild, as it looks until then."""
    return Task(
        id=envelope.task_id,
        owner_id=owner_id(envelope.owner),
        action=envelope.action,
        queue=envelope.queue,
        status=TaskStatus.PENDING,
        seq=seq,
        run=envelope.run,
        attempt=0,
        max_attempts=envelope.max_attempts,
        progress=0,
        message=None,
        labels=envelope.labels,
        created_at=_moment(envelope.created_at),
        fingerprint=envelope.fingerprint,
    )
