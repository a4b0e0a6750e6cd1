"""The product's scripts, on a clock that tests set, and heard: what was sent and what was answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from redis.asyncio import Redis

from app.store.batching import Argument
from app.store.lua import Script, source
from app.store.tasks import SCRIPTS, TaskStore

CLOCK_KEY: Final = "test:clock"
REDIS_CLOCK: Final = "redis.call('TIME')"
TEST_CLOCK: Final = f"redis.call('HMGET', '{CLOCK_KEY}', 'seconds', 'microseconds')"
LEASE: Final = timedelta(seconds=10)
STATUS_TTL: Final = timedelta(hours=1)


def clock_fields(now: int) -> dict[str, int]:
    """Return what CLOCK_KEY holds at a time in ms."""
    return {"seconds": now // 1000, "microseconds": now % 1000 * 1000 + 999}


def on_test_clock(script: str) -> str:
    """Return a script that takes the time from CLOCK_KEY: one expression of it is replaced, and nothing else."""
    assert script.count(REDIS_CLOCK) == 1
    return script.replace(REDIS_CLOCK, TEST_CLOCK)


@dataclass(frozen=True)
class Call:
    """A script that was run: what was sent, byte for byte, and the answer."""

    name: str
    keys: Sequence[str]
    arguments: list[Argument]
    reply: Any


class HeardScript(Script):
    """A script on the tests' clock that tells of its calls."""

    def __init__(self, redis: Redis, name: str, text: str, heard: list[Call]) -> None:
        super().__init__(redis, name, text)
        self._heard = heard

    async def _call(self, keys: Sequence[str], arguments: list[Argument]) -> Any:
        reply = await super()._call(keys, arguments)
        self._heard.append(Call(self.name, keys, arguments, reply))
        return reply

    async def again(self, call: Call) -> Any:
        """Send a call a second time, as redis-py does when its answer was lost."""
        return await super()._call(call.keys, call.arguments)


class HeardStore(TaskStore):
    """The product's store, on the tests' clock; `heard` has the calls of its scripts."""

    def __init__(self, redis: Redis, *, texts: dict[str, str] | None = None) -> None:
        """Take a client, and the texts of scripts that are to run in place of the product's."""
        super().__init__(redis, lease=LEASE, status_ttl=STATUS_TTL)
        self.heard: list[Call] = []
        self._scripts = {name: self._script(redis, name, texts or {}) for name in (*SCRIPTS, "renew_epoch")}

    def _script(self, redis: Redis, name: str, texts: dict[str, str]) -> HeardScript:
        return HeardScript(redis, name, on_test_clock(texts.get(name) or source(name)), self.heard)

    async def again(self, call: Call) -> Any:
        """Send a call a second time."""
        script: Any = self._scripts[call.name]
        return await script.again(call)

    async def renew_epoch(self, shard: int, *, nonce: str, server: str, old: bool) -> Any:
        """Do what a new connection does, or an operator who knows that nobody runs."""
        return await self._scripts["renew_epoch"].on_shard(shard, nonce=nonce, server=server, old=int(old))


def named(arguments: Sequence[Argument]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Take a script's arguments apart: the named ones, and fields of the hash."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
    cut = next((at for at in range(0, len(parts), 2) if parts[at] == b"--"), len(parts))
    names, fields = parts[:cut], parts[cut + 1 :]
    return _pairs(names), _pairs(fields)


def _pairs(flat: list[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
