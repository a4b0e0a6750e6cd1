"""A script of `scripts/` as a typed async function."""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.store.keys import OWNER_CHANNEL_PREFIX, PUBLIC_FIELDS, epoch_key, live_key, logs_key, shard_of, task_key

Argument = str | bytes | int


class Script:
    """One atomic change of a task. Each may be sent twice: redis-py sends a command again when its answer was lost."""

    def __init__(self, redis: Redis, name: str) -> None:
        self.name = name
        self._script = redis.register_script(source(name))

    async def __call__(self, task_id: UUID, fields: Sequence[Argument] = (), **named: Argument) -> Any:
        """Run the script on a task; byte strings in the reply are left as they are.

        Args:
            task_id: The task; the script has its hash, its log and its shard's keys.
            fields: Fields and values of the hash, for those scripts that take them.
            named: The script's arguments, as its head names them.

        A cancelled caller does not cancel the call: it may have happened already, and its answer must not be read by
        somebody else (redis-py, CVE-2023-28858).

        Raises:
            StoreUnavailable: No answer in time; the change may or may not have happened.
        """
        shard = shard_of(task_id)
        keys = [task_key(task_id), live_key(shard), epoch_key(shard), logs_key(task_id)]
        return await self._shielded(keys, fields, named)

    async def on_shard(self, shard: int, **named: Argument) -> Any:
        """Run a script that is about a whole shard."""
        return await self._shielded([epoch_key(shard), live_key(shard), epoch_key(shard)], (), named)

    async def _shielded(self, keys: list[str], fields: Sequence[Argument], named: Mapping[str, Argument]) -> Any:
        arguments = [part for pair in named.items() for part in pair]
        if fields:
            arguments += ["--", *fields]
        call = asyncio.ensure_future(self._call(keys, arguments))
        call.add_done_callback(_retrieved)
        return await asyncio.shield(call)

    async def _call(self, keys: list[str], arguments: list[Argument]) -> Any:
        try:
            return await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable from error


def _retrieved(call: asyncio.Future[Any]) -> None:
    """Look at the error of a call whose caller has gone: it is nobody's, and asyncio would log it."""
    if not call.cancelled():
        call.exception()


def source(name: str) -> str:
    """Return a script's text, with what stands before every script."""
    folder = files("app.store") / "scripts"
    names = ", ".join(f"'{field}'" for field in PUBLIC_FIELDS)
    constants = f"local FIELDS = {{{names}}}\nlocal CHANNEL = '{OWNER_CHANNEL_PREFIX}'\n"
    return constants + "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))
