"""Stage: a real Redis with the scripts on it, the model beside it, and a look at both after every step."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import UUID

import redis
import redis.asyncio

from app.store.keys import OWNER_CHANNEL_PREFIX, epoch_key, live_key, shard_of, task_key
from tests.store.model import answer
from tests.store.model.shard import Arguments, Shard, normal
from tests.store.scripts import CLOCK_KEY, Call, HeardStore, clock_fields, named

Answer = TypeVar("Answer")
TASK_ID: Final = UUID("0c5f1c1e-5d0a-4b8e-9d53-4b1f6a2f0e07")
BEGINNING: Final = 1_800_000_000_000
SENTINEL: Final = f"{OWNER_CHANNEL_PREFIX}sentinel"
REAL_TIME_MS: Final = 30_000
"""PEXPIRE follows the real clock: what a TTL may have lost since it was set. All TTLs differ by more."""

KEY, LIVE, EPOCH = task_key(TASK_ID), live_key(shard_of(TASK_ID)), epoch_key(shard_of(TASK_ID))


@dataclass
class Seen:
    """What Redis holds of the task, and what was published since the last look."""

    hash: dict[str, bytes] = field(default_factory=dict)
    ttl: int | None = None
    live: int | None = None
    epoch: dict[str, bytes] = field(default_factory=dict)
    published: list[list[bytes | None]] = field(default_factory=list)
    keys: int = 1

    @property
    def status(self) -> str:
        """The status, an empty string without a hash."""
        return self.hash.get("status", b"").decode()

    def number(self, name: str) -> int:
        """Return a field as a number, 0 if it is not there."""
        return int(self.hash.get(name, b"0"))


@dataclass(frozen=True)
class Saved:
    """Both sides at a moment, as an older disk has them."""

    dump: bytes | None
    seen: Seen
    model: Shard


class Stage:
    """Clients and a loop that all examples share; `begin` empties Redis and the model."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._async_client = redis.asyncio.Redis.from_url(url)
        self._client: Any = redis.Redis.from_url(url)
        self._client.config_set("appendfsync", "no")  # the disk is not what is tested, and costs half of the time
        self._pubsub: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.psubscribe(f"{OWNER_CHANNEL_PREFIX}*")
        assert self._pubsub.get_message(timeout=5)["type"] == "psubscribe"
        self.store = HeardStore(self._async_client)
        self.model = Shard(BEGINNING)
        self.seen = Seen()
        self.answers: set[tuple[str, str]] = set()
        self._looks = 0

    def play(self, texts: dict[str, str]) -> None:
        """Run these scripts in place of the product's."""
        self.store = HeardStore(self._async_client, texts=texts)

    def close(self) -> None:
        """Close what `__init__` opened."""
        self._loop.run_until_complete(self._async_client.aclose())
        self._loop.close()
        self._pubsub.close()
        self._client.flushall()
        self._client.config_set("appendfsync", "always")
        self._client.close()

    def begin(self) -> None:
        """Empty both sides."""
        self.model = Shard(BEGINNING)
        self.lose_all()
        self._looks += 1
        self._client.publish(SENTINEL, self._looks)
        self._published()  # what is left of an example that failed
        self.look()

    def wait_for(self, step: Coroutine[Any, Any, Answer]) -> Answer:
        """Run one method of the store, and compare its calls with the model's answers."""
        self.store.heard.clear()
        result = self._loop.run_until_complete(step)
        for call in self.store.heard:
            self._compare(call, call.reply)
        return result

    def again(self, call: Call) -> Any:
        """Send a call a second time; return the normal form of its reply."""
        reply = self._loop.run_until_complete(self.store.again(call))
        self._compare(call, reply)
        return normal(reply)

    def _compare(self, call: Call, reply: Any) -> None:
        kind = normal(reply)
        self.answers.add((call.name, (kind[0] if isinstance(kind, list) else kind).decode()))
        expected = normal(answer(self.model, call.name, Arguments(*named(call.arguments))))
        assert normal(reply) == expected, f"{call.name} answered {normal(reply)}, the model {expected}"

    # --- what no script does

    def set_clock(self, now: int) -> None:
        """Let it be this time, in ms."""
        self.model.now = now
        self._client.hset(CLOCK_KEY, mapping=clock_fields(now))

    def lose_all(self) -> None:
        """FLUSHALL."""
        self.model.lose_all()
        self._client.flushall()
        self.set_clock(self.model.now)

    def expire(self) -> None:
        """Let the hash's TTL run out, if it has one."""
        if self._client.pttl(KEY) > 0:
            self._client.delete(KEY)
        if self.model.ttl is not None:
            self.model.lose_task()

    def set_by_hand(self, status: str) -> None:
        """Do what operators do: HSET … status."""
        self.model.put(status=status)
        self._client.hset(KEY, "status", status)

    def save(self) -> Saved:
        """Keep all of it, as a disk would."""
        return Saved(self._client.dump(KEY), self.seen, self.model.copy())

    def roll_back(self, saved: Saved) -> None:
        """Let Redis come back with older data: the hash by RESTORE … REPLACE."""
        now, self.model = self.model.now, saved.model.copy()
        self.model.now = now
        pipeline = self._client.pipeline()
        pipeline.delete(KEY, LIVE, EPOCH)
        if saved.dump is not None:
            pipeline.restore(KEY, saved.seen.ttl or 0, saved.dump, replace=True)
        if saved.seen.live is not None:
            pipeline.zadd(LIVE, {str(TASK_ID): saved.seen.live})
        if saved.seen.epoch:
            pipeline.hset(EPOCH, mapping=saved.seen.epoch)
        pipeline.execute()

    # --- looking

    def look(self) -> Seen:
        """Look at all of Redis, and compare it with the model."""
        self._looks += 1
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hgetall(KEY)
        pipeline.pttl(KEY)
        pipeline.zrange(LIVE, 0, -1, withscores=True)
        pipeline.hgetall(EPOCH)
        pipeline.dbsize()
        pipeline.publish(SENTINEL, self._looks)
        fields, ttl, live, epoch, keys, _ = pipeline.execute()
        scores = {member.decode(): int(score) for member, score in live}
        assert scores.keys() <= {str(TASK_ID)}
        self.seen = Seen(
            hash={name.decode(): value for name, value in fields.items()},
            ttl=ttl if ttl >= 0 else None,
            live=scores.get(str(TASK_ID)),
            epoch={name.decode(): value for name, value in epoch.items()},
            published=self._published(),
            keys=keys,
        )
        self._compare_stores()
        return self.seen

    def _published(self) -> list[list[bytes | None]]:
        documents: list[list[bytes | None]] = []
        while (message := self._pubsub.get_message(timeout=5)) is not None:
            if message["channel"] == SENTINEL.encode():
                if int(message["data"]) == self._looks:
                    return documents
                continue
            key, values = json.loads(message["data"])
            assert key == KEY
            assert message["channel"].decode() == f"{OWNER_CHANNEL_PREFIX}{values[0]}"
            documents.append([value.encode() if value is not False else None for value in values])
        raise AssertionError("the subscription is silent")

    def _compare_stores(self) -> None:
        seen, model = self.seen, self.model
        assert seen.hash == model.hash
        assert seen.live == model.live
        assert seen.epoch == model.epoch
        assert seen.published == model.published
        model.published.clear()
        assert (seen.ttl is None) == (model.ttl is None)
        if seen.ttl is not None and model.ttl is not None:
            assert model.ttl - REAL_TIME_MS <= seen.ttl <= model.ttl
        assert seen.keys == 1 + bool(seen.hash) + (seen.live is not None) + bool(seen.epoch)
