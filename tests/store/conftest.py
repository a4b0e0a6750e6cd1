"""A store on an empty Redis whose clock a test sets, and orders to put into it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from app.domain.envelope import Envelope
from app.domain.task import Task
from app.store.keys import epoch_key, live_key, shard_of, task_key
from app.store.replies import Claim, Claimed, Created
from stack.ports import free_port
from stack.servers import RedisServer
from tests.store.cast import OWNER, sealed
from tests.store.scripts import CLOCK_KEY, HeardStore, clock_fields
from tests.store.stage import BEGINNING, TASK_ID

SHARD = shard_of(TASK_ID)


def order(message_id: str = "m1", **changes: object) -> Envelope:
    """Return an order without a key; `changes` go to the Envelope."""
    values: dict[str, object] = {
        "task_id": TASK_ID,
        "message_id": message_id,
        "action": "noop",
        "queue": "bench",
        "owner": OWNER,
        "params": {},
        "max_attempts": 2,
        "created_at": BEGINNING,
    }
    return Envelope.model_validate(values | changes)


@dataclass
class Desk:
    """A store, its clock, and the steps that most tests begin with. Its epoch counts as old."""

    redis: Redis
    store: HeardStore
    now: int = BEGINNING
    epochs: int = 0

    async def later(self, span: int) -> None:
        """Let so many ms pass; fewer than none step the clock back."""
        self.now += span
        await self.redis.hset(CLOCK_KEY, mapping=clock_fields(self.now))  # type: ignore[arg-type]

    async def begin_epoch(self, *, old: bool) -> None:
        """Begin another epoch."""
        self.epochs += 1
        await self.store.renew_epoch(SHARD, nonce=f"epoch {self.epochs}", server=f"server {self.epochs}", old=old)

    async def empty_redis(self, *, old: bool = True) -> None:
        """FLUSHALL, and an epoch that counts as old, or not."""
        await self.redis.flushall()
        await self.later(0)
        await self.begin_epoch(old=old)

    async def created(self, envelope: Envelope) -> Created:
        """Create a task."""
        created = await self.store.create(envelope, sealed(envelope))
        assert isinstance(created, Created)
        return created

    async def promised(self, envelope: Envelope) -> Task:
        """Create a task and promise it."""
        created = await self.created(envelope)
        task = await self.store.queued(envelope, created.epoch)
        assert isinstance(task, Task)
        return task

    async def claim(self, envelope: Envelope, *, worker: str = "worker", asked: object = None) -> Claim:
        """Claim a task with a message; a copy would be `<message>-copy`."""
        return await self.store.claim(
            envelope,
            sealed(envelope),
            checkpoint=None,
            worker=worker,
            copy_id=f"{envelope.message_id}-copy",
            asked=asked,  # type: ignore[arg-type]
        )

    async def running(self, envelope: Envelope, *, worker: str = "worker") -> Claimed:
        """Promise a task and let a worker have it."""
        await self.promised(envelope)
        claimed = await self.claim(envelope, worker=worker)
        assert isinstance(claimed, Claimed)
        return claimed

    async def hash(self) -> dict[str, bytes]:
        """Return the task's hash."""
        fields: Any = await self.redis.hgetall(task_key(TASK_ID))
        return {name.decode(): value for name, value in fields.items()}

    async def ttl(self) -> int | None:
        """Return the hash's TTL in ms; None if it has none."""
        ttl: int = await self.redis.pttl(task_key(TASK_ID))
        return ttl if ttl >= 0 else None

    async def is_live(self) -> bool:
        """Return whether the task is listed as living."""
        return await self.redis.zscore(live_key(SHARD), str(TASK_ID)) is not None

    async def epoch(self) -> bytes:
        """Return the epoch's id."""
        return await self.redis.hget(epoch_key(SHARD), "id") or b""  # type: ignore[return-value]


@pytest.fixture
async def desk(redis: Redis) -> Desk:
    """A store on an empty Redis."""
    desk = Desk(redis, HeardStore(redis))
    await desk.later(0)
    await desk.begin_epoch(old=True)
    return desk


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may stop."""
    server = RedisServer(tmp_path_factory.mktemp("own-redis"), free_port(), die_with_parent=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_redis(own_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of that Redis, as its operator."""
    async with Redis.from_url(own_server.url) as client:
        yield client
