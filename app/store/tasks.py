"""TaskStore: one method for each script, and the reads.

A caller awaits the outcome of its own task; whether calls share a round trip is decided in here. Envelopes and
checkpoints come and go sealed: the store never sees a key.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.envelope import Envelope
from app.domain.errors import LeaseLost, StoreUnavailable
from app.domain.moments import milliseconds, moment, span_milliseconds
from app.domain.task import Task
from app.store.batching import RoundTrips
from app.store.keys import PUBLIC_FIELDS, live_key, shard_of, task_key
from app.store.lua import Script
from app.store.nonces import Nonces
from app.store.records import (
    Values,
    end_fields,
    flat,
    order_fields,
    pending_task,
    row_fields,
    task_from,
    visible_task,
)
from app.store.replies import (
    Ask,
    AskRow,
    Beat,
    Claim,
    Claimed,
    Created,
    Deleted,
    Drop,
    Exhausted,
    Exists,
    Guarded,
    Held,
    Park,
    Question,
    Redrive,
    Released,
    Symptoms,
    Wait,
    Waiting,
    Young,
)

CREATED_TTL: Final = timedelta(seconds=60)
FIRST_MARK_TTL: Final = timedelta(seconds=60)
TOMBSTONE_TTL: Final = timedelta(hours=24)
LIVING: Final = (b"created", b"PENDING", b"PROCESSING")

SCRIPTS: Final = (
    "create",
    "rerun",
    "queued",
    "abort",
    "claim",
    "promote",
    "beat",
    "commit",
    "restore",
    "hand_over",
    "release",
    "requeue",
    "settle",
    "cancel",
    "forget",
    "redrive",
)
GUARDED: Final = ("guard", "next_guard", "lease_until", "envelope", "checkpoint", "checkpoint_progress")
SUBMISSION: Final = timedelta(seconds=1)
"""How long a message's coming may be ahead of the end of its submission."""
TAKE_OVER: Final = timedelta(seconds=5)
"""How long after a lease its worker may still write."""
SYMPTOMS: Final = ("status", "queue", "lease_until", "not_before", "redrives", "finished_at", "action", "owner")


class TaskStore:
    """The tasks in Redis. Every method may be repeated; each raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis, *, lease: timedelta, status_ttl: timedelta) -> None:
        """Take the client and the times.

        Args:
            redis: A client that leaves bytes as they are.
            lease: How long a claim holds without a beat; whole milliseconds.
            status_ttl: How long Redis shows an ended task.
        """
        self._redis = redis
        self._trips = RoundTrips.of(redis)
        self.lease = lease
        self._lease = span_milliseconds(lease)
        self._status_ttl = span_milliseconds(status_ttl)
        self._nonces = Nonces()
        self._scripts = {name: Script(redis, name) for name in SCRIPTS}

    # --- submission

    async def create(self, envelope: Envelope, sealed: bytes) -> Created | Exists | Young | Deleted:
        """Begin a task, invisible until `queued`; left alone, it goes after 60 s.

        Args:
            envelope: The order.
            sealed: The same, sealed: kept until the end, so that the message can be made again.
        """
        kind, *rest = await self._scripts["create"](
            envelope.task_id,
            order_fields(envelope, sealed),
            nonce=self._nonces.next(),
            lease=self._lease,
            message=envelope.message_id,
            keyed=int(envelope.fingerprint is not None),
            patience=span_milliseconds(CREATED_TTL),
        )
        match kind:
            case b"EXISTS":
                return Exists(task_from(envelope.task_id, rest[1]))
            case b"YOUNG":
                return Young(timedelta(milliseconds=int(rest[0])))
            case b"FORGOTTEN":
                return Deleted()
            case _:
                by_other = kind == b"STARTED"
                made_for = task_from(envelope.task_id, rest[1]).fingerprint if by_other else envelope.fingerprint
                return Created(rest[0], by_other=by_other, fingerprint=made_for)

    async def rerun(
        self, envelope: Envelope, sealed: bytes, checkpoint: bytes | None, ended: Task, *, by_hand: bool = False
    ) -> Created | Exists | Young | Deleted:
        """Begin another run of an ended task; its old end is shown until `queued`, and put back by `abort`.

        Args:
            envelope: The order, with the new run.
            sealed: The same, sealed.
            checkpoint: From where it goes on; sealed.
            ended: The end of the run before, as its row has it.
            by_hand: An operator has set the status to PENDING, which counts as the end it had.
        """
        old_end = end_fields(ended) | {"progress": ended.progress}
        fields = [*order_fields(envelope, sealed, checkpoint), *flat(old_end)]
        kind, *rest = await self._scripts["rerun"](
            envelope.task_id,
            fields,
            nonce=self._nonces.next(),
            lease=self._lease,
            message=envelope.message_id,
            run=envelope.run,
            patience=span_milliseconds(CREATED_TTL),
            hand=int(by_hand),
        )
        match kind:
            case b"CREATED":
                return Created(rest[0])
            case b"RUNNING":
                return Exists(task_from(envelope.task_id, rest[1]))
            case b"YOUNG":
                return Young(timedelta(milliseconds=int(rest[0])))
            case _:
                return Deleted()

    async def queued(self, envelope: Envelope, epoch: bytes) -> Task | Deleted | None:
        """Promise the task, now that the broker has confirmed this message.

        Args:
            envelope: What the message carries.
            epoch: In which the request began, as `create` said.

        Returns:
            The task as it is now; None if Redis knows none (any more): the message will rebuild it.
        """
        kind, *rest = await self._scripts["queued"](
            envelope.task_id,
            nonce=self._nonces.next(),
            lease=self._lease,
            run=envelope.run,
            message=envelope.message_id,
            epoch=epoch,
        )
        match kind:
            case b"QUEUED":
                return pending_task(envelope, seq=int(rest[0]))
            case b"ALIVE":
                return task_from(envelope.task_id, rest[0])
            case b"FORGOTTEN":
                return Deleted()
            case _:
                return None

    async def abort(self, envelope: Envelope) -> Literal["ABORTED", "MISSING"] | Task:
        """Take back a task whose message may not have been taken by the broker.

        Returns:
            ABORTED: should the message arrive all the same, it will be dropped. MISSING: nothing is known, it may run.
            A task: it is alive, through this message or another.
        """
        kind, *rest = await self._scripts["abort"](
            envelope.task_id,
            run=envelope.run,
            message=envelope.message_id,
            patience=span_milliseconds(TOMBSTONE_TTL),
            ttl=self._status_ttl,
        )
        if kind == b"ALIVE":
            return task_from(envelope.task_id, rest[0])
        return "ABORTED" if kind == b"ABORTED" else "MISSING"

    # --- execution

    async def claim(
        self,
        envelope: Envelope,
        sealed: bytes,
        *,
        checkpoint: bytes | None,
        worker: str,
        copy_id: str,
        asked: Ask | None = None,
    ) -> Claim:
        """Take the task for one attempt: one round trip, on Redis' time; a repetition gives the same answer.

        Args:
            envelope: What the message in hand carries; its `message_id` is held against the guard.
            sealed: The same, sealed.
            checkpoint: The envelope's, sealed by itself.
            worker: Who asks; shown to operators.
            copy_id: The id of a copy, should the message have to be parked.
            asked: An earlier answer, once the archive has been asked and nothing stands against this message.

        Fencing tokens: M. Kleppmann, "How to do distributed locking", 2016.
        """
        kind, *rest = await self._scripts["claim"](
            envelope.task_id,
            # Nothing is made from the message before the archive has been asked about it.
            order_fields(envelope, sealed, checkpoint) if asked else (),
            nonce=self._nonces.next(),
            lease=self._lease,
            run=envelope.run,
            message=envelope.message_id,
            worker=worker,
            copy=copy_id,
            asked=asked.what if asked else "",
            epoch=asked.epoch if asked else "",
        )
        match kind:
            case b"CLAIMED":
                attempt, token, cancel, rebuilt, charged, stored, values = rest
                task = task_from(envelope.task_id, values)
                return Claimed(
                    task=task,
                    attempt=int(attempt),
                    token=int(token),
                    charged=int(charged),
                    progress=task.progress,
                    checkpoint=stored or None,
                    cancel_requested=cancel == b"1",
                    rebuilt=rebuilt == b"1",
                )
            case b"EXHAUSTED":
                return Exhausted(task_from(envelope.task_id, rest[2]), rest[0] or None, int(rest[1]))
            case b"PARK":
                return Park(timedelta(milliseconds=int(rest[0])), copy_id)
            case b"WAIT":
                return Wait(timedelta(milliseconds=int(rest[0])))
            case b"ASK":
                return Ask(cast("Question", rest[0].decode()), rest[1])
            case _:
                return Drop(rest[0].decode())

    async def promote(self, task_id: UUID, run: int, copy_id: str, *, replaces: str) -> bool:
        """Make a confirmed copy the task's guard.

        Args:
            task_id: The task.
            run: Its run.
            copy_id: The copy's id.
            replaces: The id of the message that was copied.

        Returns:
            Whether the replaced message may be acknowledged; if not, it still guards the task, or Redis cannot tell.
        """
        return bool(await self._scripts["promote"](task_id, run=run, copy=copy_id, old=replaces) != b"KEEP")

    async def beat(self, task_id: UUID, run: int, token: int, *, progress: int, message: str | None) -> Beat:
        """Keep the lease and store the newest progress; it never falls."""
        held, *rest = await self._scripts["beat"](
            task_id, lease=self._lease, run=run, token=token, progress=progress, message=message or ""
        )
        return Beat(cast("Held", held.decode()), int(rest[0]) if rest else 0)

    async def commit(self, task_id: UUID, run: int, token: int, checkpoint: bytes, *, progress: int) -> Held:
        """Store a sealed checkpoint, durably: HELD means that it is on disk (`appendfsync always`)."""
        reply = await self._scripts["commit"](
            task_id, lease=self._lease, run=run, token=token, checkpoint=checkpoint, progress=progress
        )
        return cast("Held", reply.decode())

    async def restore(
        self,
        envelope: Envelope,
        sealed: bytes,
        checkpoint: bytes | None,
        token: int,
        *,
        progress: int,
        worker: str,
        started_at: datetime | None,
    ) -> Held:
        """Bring a task back that Redis has forgotten and this worker runs; HELD if it is there and still the worker's.

        Args:
            envelope: The order, with the attempt, the charges and the checkpoint as they are now. Its message is not
                made the guard: the first one of this run that is claimed becomes it.
            sealed: The order, sealed.
            checkpoint: The envelope's, sealed by itself.
            token: The attempt's.
            progress: In percent.
            worker: Who holds it.
            started_at: When the run's first attempt began.
        """
        began = milliseconds(started_at) if started_at else None
        shown = flat({"progress": progress, "worker": worker, "started_at": began})
        reply = await self._scripts["restore"](
            envelope.task_id,
            [*order_fields(envelope, sealed, checkpoint), *shown],
            nonce=self._nonces.next(),
            lease=self._lease,
            run=envelope.run,
            token=token,
        )
        return cast("Held", reply.decode())

    async def hand_over(self, task_id: UUID, run: int, token: int, copy_id: str) -> None:
        """Expect a copy of the task's message: publish it, promote it, and acknowledge the message in hand.

        Raises:
            LeaseLost: The task is not the worker's any more.
        """
        if await self._scripts["hand_over"](task_id, run=run, token=token, copy=copy_id) != b"HELD":
            raise LeaseLost

    async def release(
        self, task_id: UUID, run: int, token: int, *, copy_id: str, charge: bool, wait: timedelta
    ) -> Released | None:
        """Give the task back unfinished; None if its attempts are used up, and nothing was changed.

        Args:
            task_id: The task.
            run: Its run.
            token: The attempt's.
            copy_id: The id of the message that will bring it up again.
            charge: Whether the failure is the task's own.
            wait: How long it is to rest.

        Raises:
            LeaseLost: The task is not the worker's any more.
        """
        kind, *rest = await self._scripts["release"](
            task_id, run=run, token=token, copy=copy_id, charge=int(charge), wait=span_milliseconds(wait)
        )
        match kind:
            case b"RELEASED":
                return Released(int(rest[0]), int(rest[1]))
            case b"EXHAUSTED":
                return None
            case _:
                raise LeaseLost

    async def attempt_of(self, task_id: UUID) -> tuple[int, int] | None:
        """Return the run and the fencing token of the attempt that has the task; None if none has."""
        [(status, run, token)] = await self._hmget_many([task_id], ("status", "run", "token"))
        return (int(run), int(token)) if status == b"PROCESSING" and run and token else None

    async def requeue(self, task_id: UUID, run: int, token: int) -> bool:
        """Take a running task from its worker, for an operator: PENDING, uncharged, and its guard stays its guard.

        Args:
            task_id: The task.
            run: Its run, of which the archive has no row.
            token: The attempt's that is to lose it.

        Returns:
            Whether it is PENDING; False if another attempt has begun meanwhile, or it has ended.
        """
        return bool(await self._scripts["requeue"](task_id, run=run, token=token) == b"REQUEUED")

    # --- ends

    async def settle(self, ended: Task, *, own: str = "") -> Task | None:
        """Show the end of a run as its row has it, whatever token is there; None where Redis does not hold that run.

        Args:
            ended: The row's task.
            own: The id of the message for which the caller has just made the task: what is not seen yet becomes this
                end only if it is the caller's own.
        """
        kind, *rest = await self._scripts["settle"](
            ended.id,
            row_fields(ended),
            run=ended.run,
            status=ended.status,
            seq=ended.seq,
            own=own,
            ttl=self._status_ttl,
        )
        if kind != b"SETTLED":
            return None
        seq = int(rest[0])
        return ended if seq == ended.seq else ended._replace(seq=seq)

    async def cancel(self, task_id: UUID) -> Waiting | Task | None:
        """Ask a task to stop.

        Returns:
            Waiting: end it. A task: it has ended, or its worker will be told. None: Redis does not hold it.
        """
        kind, *rest = await self._scripts["cancel"](task_id)
        match kind:
            case b"WAITING":
                return Waiting(task_from(task_id, rest[2]), rest[0], rest[1] or None)
            case b"MISSING":
                return None
            case _:
                return task_from(task_id, rest[0])

    async def forget(self, task_id: UUID, owner: str, *, again: bool = False) -> bool:
        """Mark a task as deleted; False if it has not ended, and nothing was changed.

        The first mark goes after 60 s: should the caller die before it has blanked the row, it has promised nothing.

        Args:
            task_id: The task.
            owner: The owner's digest.
            again: After its row was blanked: mark it whatever is there, and for good.
        """
        reply = await self._scripts["forget"](
            task_id,
            owner=owner,
            ttl=self._status_ttl,
            patience=span_milliseconds(FIRST_MARK_TTL),
            again=int(again),
        )
        return bool(reply == b"FORGOTTEN")

    # --- housekeeping

    async def redrive(
        self, task_id: UUID, *, copy_id: str, everything: bool = False, asked: AskRow | None = None
    ) -> Redrive | AskRow | None:
        """Give a living task a new message, if it needs one; None if it does not.

        Args:
            task_id: A member of `live`.
            copy_id: The id of the new message.
            everything: After RabbitMQ was emptied: running tasks, too.
            asked: An earlier answer, once the archive knows no end of that run.
        """
        kind, *rest = await self._scripts["redrive"](
            task_id,
            nonce=self._nonces.next(),
            lease=self._lease,
            copy=copy_id,
            all=int(everything),
            asked=int(asked is not None),
            epoch=asked.epoch if asked else "",
        )
        match kind:
            case b"PUBLISH":
                run, wait, attempt, charged, envelope, checkpoint = rest
                return Redrive(
                    run=int(run),
                    wait=timedelta(milliseconds=int(wait)),
                    attempt=int(attempt),
                    charged=int(charged),
                    envelope=envelope,
                    checkpoint=checkpoint or None,
                )
            case b"ASK":
                return AskRow(int(rest[0]), rest[1])
            case _:
                return None

    async def living(self, shard: int, *, offset: int = 0, count: int | None = None) -> list[tuple[UUID, int]]:
        """Return a stretch of a shard's living tasks, or all, with the ms of their last publish, oldest first."""
        last = -1 if count is None else offset + count - 1
        try:
            found: Any = await self._redis.zrange(live_key(shard), offset, last, withscores=True)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return [(UUID(member.decode()), int(score)) for member, score in found]

    async def symptoms(self, task_ids: Sequence[UUID]) -> list[Symptoms]:
        """Return what housekeeping looks at, for several tasks in one round trip."""
        rows = await self._hmget_many(task_ids, SYMPTOMS)
        return [
            Symptoms(
                task_id=task_id,
                status=(row[0] or b"").decode(),
                queue=(row[1] or b"").decode(),
                lease_until=int(row[2]) if row[2] else None,
                not_before=int(row[3] or 0),
                redrives=int(row[4] or 0),
                finished=row[5] is not None,
                action=(row[6] or b"").decode(),
                owner=(row[7] or b"").decode(),
            )
            for task_id, row in zip(task_ids, rows, strict=True)
        ]

    # --- reading

    async def are_living(self, task_ids: Sequence[UUID]) -> list[bool]:
        """Tell of each task whether it is listed as one that has not ended, in one round trip."""
        scores = await self._together(
            self._trips.call("ZSCORE", live_key(shard_of(task_id)), str(task_id)) for task_id in task_ids
        )
        return [score is not None for score in scores]

    async def find(self, task_id: UUID) -> Task | None:
        """Return a task that callers may see, whoever's it is; None if there is none."""
        try:
            values = await self._trips.call("HMGET", task_key(task_id), *PUBLIC_FIELDS)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return visible_task(task_id, values)

    async def find_many(self, task_ids: Sequence[UUID]) -> list[Task | None]:
        """Return several tasks, in one round trip, in the order of their ids."""
        rows = await self._hmget_many(task_ids, PUBLIC_FIELDS)
        return [visible_task(task_id, values) for task_id, values in zip(task_ids, rows, strict=True)]

    async def guarded_by(self, task_id: UUID, message_id: str) -> Guarded | None:
        """Return the living task that this message may start, whether or not the message can be read."""
        [values] = await self._hmget_many([task_id], (*GUARDED, *PUBLIC_FIELDS))
        guard, next_guard, lease_until, envelope, checkpoint, checkpoint_progress = values[: len(GUARDED)]
        status = values[len(GUARDED) + PUBLIC_FIELDS.index("status")]
        if status not in LIVING or message_id.encode() not in (guard, next_guard):
            return None
        busy = SUBMISSION if status == b"created" else timedelta(0)
        if status == b"PROCESSING" and lease_until is not None:
            left = moment(int(lease_until)) - datetime.now(UTC)
            busy = max(busy, min(left, self.lease) + TAKE_OVER)
        return Guarded(
            task=task_from(task_id, values[len(GUARDED) :]),
            envelope=envelope or b"",
            checkpoint=checkpoint,
            checkpoint_progress=int(checkpoint_progress or 0),
            busy=busy,
        )

    async def _hmget_many(self, task_ids: Sequence[UUID], fields: Sequence[str]) -> list[Values]:
        return await self._together(self._trips.call("HMGET", task_key(task_id), *fields) for task_id in task_ids)

    async def _together(self, calls: Iterable[Awaitable[Any]]) -> list[Any]:
        try:
            return await asyncio.gather(*calls)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
