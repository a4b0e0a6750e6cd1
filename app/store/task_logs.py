"""TaskLogs: the lines that handlers write, in a bounded stream beside each task's hash.

They are for whoever follows a task, and no part of its safety: a line may be lost with its worker or with Redis. They
live as long as Redis shows the task.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.domain.log_line import LogLine, LogRecord
from app.domain.moments import moment
from app.store.keys import logs_key
from app.store.lua import Script

KEPT_LINES: Final = 1000
"""How many lines of a task are kept; the oldest go first."""


class TaskLogs:
    """The tasks' logs in Redis. Each method raises StoreUnavailable when no answer comes in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._log = Script(redis, "log")

    async def append(
        self, task_id: UUID, run: int, token: int, records: Sequence[LogRecord], *, after: int
    ) -> int | Literal["LOST", "MISSING"]:
        """Write lines and publish them, if the token still holds the task.

        Args:
            task_id: The task.
            run: Its run.
            token: The attempt's fencing token.
            records: One or more.
            after: The number of the last line that this attempt has written; 0 if it has written none.

        Returns:
            The number of the last line; LOST: write nothing more. MISSING: Redis has forgotten the task, try again.
        """
        lines = [(record.time, record.level, record.message) for record in records]
        state, *rest = await self._log(
            task_id,
            nonce=uuid4().hex,
            run=run,
            token=token,
            after=after,
            keep=KEPT_LINES,
            lines=json.dumps(lines, separators=(",", ":")),
        )
        if rest:
            return int(rest[0])
        return "LOST" if state == b"LOST" else "MISSING"

    async def read(self, task_id: UUID, *, after: int = 0, limit: int = KEPT_LINES) -> list[LogLine]:
        """Return the lines that are kept, in order.

        Args:
            task_id: The task.
            after: Only lines with a higher number than this.
            limit: How many at most; the first ones.
        """
        try:
            entries: Any = await self._redis.xrange(logs_key(task_id), min=f"({after}-0", count=limit)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error
        return [
            LogLine(
                task_id=task_id,
                line=int(entry.partition(b"-")[0]),
                time=moment(int(fields[b"time"])),
                level=fields[b"level"].decode(),
                message=fields[b"message"].decode(),
            )
            for entry, fields in entries
        ]
