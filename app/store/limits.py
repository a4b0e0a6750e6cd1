"""OwnerLimits: how much an owner may submit, and how many of its tasks may be under way, over all API processes.

The active tasks are a set of ids: added before `create`, removed after the end. A process that dies in between leaves
an id too many, or one too few after Redis was emptied; the leader sets both right (workers/housekeeping/quotas.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from math import ceil
from typing import Any, Final, NamedTuple
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.envelope import Envelope
from app.domain.errors import QuotaExceeded, RateLimited, StoreUnavailable
from app.domain.limits import RateStatus
from app.domain.moments import span_milliseconds
from app.domain.task import id_text
from app.store.batching import RoundTrips
from app.store.keys import ACTIVE_PATTERN, owner_active_key, owner_id, owner_of_key, owner_rate_key, owner_tasks_key
from app.store.listing import LIST_TTL
from app.store.lua import LoadedText, text_of
from app.store.nonces import Nonces

QUOTA_RETRY_SECONDS: Final = 5
"""After how long it is worth asking again whether one of one's own tasks has ended."""


class Admission(NamedTuple):
    """A submission may go on."""

    rate: RateStatus
    is_new: bool
    """Whether the task counts since this request; if it then comes to nothing, it is to be released."""


class OwnerLimits:
    """The owners' limits. Each method raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis, *, quota: int, window: timedelta, active_tasks: int) -> None:
        """Take the client and the limits, which are the same for every owner.

        Args:
            redis: A client that leaves bytes as they are.
            quota: Submissions that an owner may make at once, and in each window on average.
            window: Whole seconds.
            active_tasks: How many tasks of an owner may be waiting or running.
        """
        self._redis = redis
        self._quota = quota
        self._window_seconds = window // timedelta(seconds=1)
        self._active_tasks = active_tasks
        self._given = quota, span_milliseconds(window), active_tasks, span_milliseconds(LIST_TTL)  # to admit.lua
        self._trips = RoundTrips.of(redis)
        self._nonces = Nonces()
        self._admit = LoadedText(redis, text_of("admit"))

    async def admit(self, envelope: Envelope) -> Admission:
        """Take a unit of the owner's rate, count the task as active, and list it: one script, one round trip.

        A task that counts already (a request is repeated) takes a unit of rate and no quota.

        Raises:
            RateLimited, QuotaExceeded: The task does not count, and is not listed.
        """
        owner = owner_id(envelope.owner)
        verdict, remaining, next_unit_ms, is_new = await self._admit.run(
            [owner_rate_key(owner), owner_active_key(owner), owner_tasks_key(owner)],
            [id_text(envelope.task_id), self._nonces.next(), envelope.created_at, *self._given],
        )
        rate = RateStatus(
            quota=self._quota,
            window_seconds=self._window_seconds,
            remaining=remaining,
            next_unit_seconds=max(1, ceil(next_unit_ms / 1000)),
        )
        match verdict:
            case b"RATE":
                detail = f"At most {self._quota} submissions in {rate.window_seconds} s; nothing was accepted."
                raise RateLimited(detail, retry_after=rate.next_unit_seconds, rate=rate)
            case b"QUOTA":
                detail = f"At most {self._active_tasks} tasks may wait or run at a time; nothing was accepted."
                raise QuotaExceeded(detail, retry_after=max(QUOTA_RETRY_SECONDS, rate.next_unit_seconds), rate=rate)
            case _:
                return Admission(rate, is_new=bool(is_new))

    async def count(self, owner: str, task_ids: Sequence[UUID]) -> None:
        """Count tasks as active whatever the limit: they are there. Those that count already stay as they are."""
        now = time.time_ns() // 1_000_000
        members: Mapping[Any, Any] = {str(task_id): now for task_id in task_ids}
        await self._call(self._redis.zadd(owner_active_key(owner), members, nx=True))

    async def release(self, owner: str, task_id: UUID) -> None:
        """Count a task no more: it has ended, or never came to be."""
        await self._call(self._trips.call("ZREM", owner_active_key(owner), id_text(task_id)))

    def release_with_next(self, owner: str, task_id: UUID) -> None:
        """As `release`, in one go with the next call to Redis, and before it: if that is answered, so is this."""
        self._trips.call("ZREM", owner_active_key(owner), id_text(task_id), leads=True)

    # --- for the leader

    async def owners(self, cursor: int, *, count: int) -> tuple[int, list[str]]:
        """Walk on through the keys: return where to go on, 0 at the end, and owners that have active tasks."""
        found = await self._call(self._redis.scan(cursor, match=ACTIVE_PATTERN, count=count))
        return found[0], [owner_of_key(key.decode()) for key in found[1]]

    async def counted(self, owner: str, *, before: int, offset: int, limit: int) -> list[UUID]:
        """Return a stretch of an owner's active tasks that count since before this ms since the epoch, oldest first."""
        found = await self._call(
            self._redis.zrange(owner_active_key(owner), "-inf", before, byscore=True, offset=offset, num=limit)
        )
        return [UUID(member.decode()) for member in found]

    async def _call(self, call: Awaitable[Any]) -> Any:
        """Await Redis; a cancelled caller does not cancel the call (see app/store/lua.py)."""
        try:
            return await asyncio.shield(call)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable from error
