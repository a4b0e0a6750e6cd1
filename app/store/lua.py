"""A script of `scripts/` as a typed async function."""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from itertools import chain
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from app.domain.errors import StoreUnavailable
from app.store.batching import Argument, RoundTrips
from app.store.keys import OWNER_CHANNEL_PREFIX, PUBLIC_FIELDS, epoch_key, live_key, script_keys


class Script:
    """One atomic change of a task. Each may be sent twice: a command goes again when its answer was lost."""

    def __init__(self, redis: Redis, name: str, text: str | None = None) -> None:
        """Take the client, the script's name, and its text if that is another than `source` says."""
        self.name = name
        self._text = LoadedText(redis, text or source(name))

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
        return await self._call(script_keys(task_id), _flat(fields, named))

    async def on_shard(self, shard: int, **named: Argument) -> Any:
        """Run a script that is about a whole shard."""
        return await self._call([epoch_key(shard), live_key(shard), epoch_key(shard)], _flat((), named))

    async def _call(self, keys: Sequence[str], arguments: list[Argument]) -> Any:
        return await self._text.run(keys, arguments)


class LoadedText:
    """A script's text, sent to Redis once by each process, and again when Redis has lost it."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._trips = RoundTrips.of(redis)
        self.text = text
        self._digest = sha1(text.encode()).hexdigest()  # noqa: S324  # by which Redis names a script
        self._is_loaded = False
        self._loading: asyncio.Future[Any] | None = None

    async def run(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it; in one round trip with all that is called meanwhile (see batching.py).

        Raises:
            StoreUnavailable: No answer in time; the change may or may not have happened.
        """
        try:
            if not self._is_loaded:
                await self._load()
            try:
                return await self._trips.call("EVALSHA", self._digest, len(keys), *keys, *arguments)
            except NoScriptError:
                await self._load()
                return await self._trips.call("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def _load(self) -> None:
        """Send the text; of a crowd that misses it, one does."""
        if self._loading is None or self._loading.done():
            self._loading = self._trips.call("SCRIPT", "LOAD", self.text)
        await asyncio.shield(self._loading)
        self._is_loaded = True


def _flat(fields: Sequence[Argument], named: Mapping[str, Argument]) -> list[Argument]:
    arguments = list(chain.from_iterable(named.items()))
    return [*arguments, "--", *fields] if fields else arguments


def text_of(name: str) -> str:
    """Return a script's own text."""
    return (files("app.store") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")


def source(name: str) -> str:
    """Return the text of a script about a task, with what stands before every such script."""
    fields = ", ".join(f"'{field}'" for field in PUBLIC_FIELDS)
    document = f"local function document()\n  return redis.call('HMGET', KEYS[1], {fields})\nend\n"
    return f"local CHANNEL = '{OWNER_CHANNEL_PREFIX}'\n{document}" + text_of("prelude") + text_of(name)
