"""Every key and channel in Redis; none is spelled anywhere else.

| name                               | type    | TTL begins with       | what                                    |
| ---------------------------------- | ------- | --------------------- | --------------------------------------- |
| `longhaul:{sNN}:task:<uuid>`       | hash    | the task's end        | a task; `HGETALL` is readable           |
| `longhaul:{sNN}:logs:<uuid>`       | stream  | the task's end        | a handler's lines, bounded              |
| `longhaul:{sNN}:live`              | zset    | never                 | ids not ended, by their last publish    |
| `longhaul:{sNN}:epoch`             | hash    | never                 | id, since, server: see `epoch` in Lua   |
| `longhaul:leader`                  | string  | each renewal          | who keeps house                         |
| `longhaul:worker:<host:pid>`       | string  | each heartbeat        | what a worker says of itself, JSON      |
| `longhaul:workers`                 | zset    | each heartbeat        | ids of workers, by last heartbeat       |
| `longhaul:owner:{<digest>}:tasks`  | zset    | the newest submission | ids of an owner's tasks, by created_at  |
| `longhaul:owner:{<digest>}:active` | zset    | never                 | ids that count, by when they began to   |
| `longhaul:owner:{<digest>}:rate`   | hash    | each submission       | when the bucket is full: see admit.lua  |
| `longhaul:owner:<digest>`          | channel |                       | an owner's tasks: documents, log lines  |
| `longhaul:ticket:<digest>`         | string  | its making            | sealed: whose ticket it is, for what    |

`sNN` is a fixed shard of the task's id: all keys of a task share one slot of a Redis Cluster, and so do all keys of an
owner. What is outside of a task's slot is a set of ids, never a counter.
"""

from functools import lru_cache
from typing import Final
from uuid import UUID

from app.domain.task import Owner, id_text

SHARDS: Final = 16
REMEMBERED: Final = 1024
"""Of so many tasks the keys are remembered: each of a task's few scripts wants them."""

PUBLIC_FIELDS: Final = (
    "owner",
    "action",
    "queue",
    "status",
    "seq",
    "run",
    "attempt",
    "max_attempts",
    "progress",
    "message",
    "labels",
    "created_at",
    "started_at",
    "finished_at",
    "expires_at",
    "result",
    "error",
    "fingerprint",
    "cancel",
    "not_before",
    "ended_as",
    "callback",
)
"""The fields of a task's hash that make its document, in the order in which scripts return and publish them."""


def shard_of(task_id: UUID) -> int:
    """Return a task's shard: fixed by its id."""
    return task_id.int % SHARDS


@lru_cache(REMEMBERED)
def task_key(task_id: UUID) -> str:
    """Return the key of a task's hash."""
    return f"longhaul:{{s{shard_of(task_id):02d}}}:task:{id_text(task_id)}"


@lru_cache(REMEMBERED)
def logs_key(task_id: UUID) -> str:
    """Return the key of a task's log."""
    return f"longhaul:{{s{shard_of(task_id):02d}}}:logs:{id_text(task_id)}"


@lru_cache(SHARDS)
def live_key(shard: int) -> str:
    """Return the key of a shard's living tasks, scored by the ms of their last confirmed publish."""
    return f"longhaul:{{s{shard:02d}}}:live"


@lru_cache(SHARDS)
def epoch_key(shard: int) -> str:
    """Return the key of a shard's epoch."""
    return f"longhaul:{{s{shard:02d}}}:epoch"


@lru_cache(REMEMBERED)
def script_keys(task_id: UUID) -> tuple[str, str, str, str]:
    """Return the keys of a script about a task, in the order in which prelude.lua has them."""
    shard = shard_of(task_id)
    return task_key(task_id), live_key(shard), epoch_key(shard), logs_key(task_id)


LEADER_KEY: Final = "longhaul:leader"
WORKERS_KEY: Final = "longhaul:workers"
TASK_PATTERN: Final = "longhaul:*:task:*"
"""For SCAN: every task's hash."""


def worker_key(worker: str) -> str:
    """Return the key of what a worker says of itself."""
    return f"longhaul:worker:{worker}"


def owner_id(owner: Owner) -> str:
    """Return the digest by which keys name an owner: 32 hexadecimal digits."""
    return owner.digest


def owner_tasks_key(owner: str) -> str:
    """Return the key of an owner's list of task ids, scored by `created_at` in ms."""
    return f"longhaul:owner:{{{owner}}}:tasks"


def owner_active_key(owner: str) -> str:
    """Return the key of the ids that count against an owner's quota, scored by the ms at which they began to."""
    return f"longhaul:owner:{{{owner}}}:active"


def owner_rate_key(owner: str) -> str:
    """Return the key of an owner's token bucket."""
    return f"longhaul:owner:{{{owner}}}:rate"


ACTIVE_PATTERN: Final = "longhaul:owner:{*}:active"
"""For SCAN: every owner's active tasks."""


def task_of_key(key: str) -> UUID:
    """Return the task whose hash this is."""
    return UUID(key.rpartition(":")[2])


def owner_of_key(key: str) -> str:
    """Return the digest of the owner whose key this is."""
    return key.partition("{")[2].partition("}")[0]


def owner_channel(owner: str) -> str:
    """Return the channel on which the documents and the log lines of an owner's tasks are published."""
    return f"{OWNER_CHANNEL_PREFIX}{owner}"


OWNER_CHANNEL_PREFIX: Final = "longhaul:owner:"


def ticket_key(digest: bytes) -> str:
    """Return the key of a ticket, by its SHA-256."""
    return f"longhaul:ticket:{digest.hex()}"
