"""A script of `scripts/` as a typed async function."""

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.domain.errors import StoreUnavailable
from app.store.keys import OWNER_CHANNEL_PREFIX, PUBLIC_FIELDS

Argument = str | bytes | int


class Script:
    """One atomic change. Every script may be sent twice: redis-py sends a command again when its answer was lost."""

    def __init__(self, redis: Redis, name: str) -> None:
        self.name = name
        self._script = redis.register_script(_source(name))

    async def __call__(self, key: str, *arguments: Argument) -> Any:
        """Run the script on one key; byte strings in the reply are left as they are.

        A cancelled caller does not cancel the call: it may have happened already, and its answer must not be read by
        somebody else (redis-py, CVE-2023-28858).

        Raises:
            StoreUnavailable: No answer in time; the change may or may not have happened.
        """
        return await asyncio.shield(self._call(key, arguments))

    async def _call(self, key: str, arguments: Sequence[Argument]) -> Any:
        try:
            return await self._script(keys=[key], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable from error


def _source(name: str) -> str:
    folder = files("app.store") / "scripts"
    names = ", ".join(f"'{field}'" for field in PUBLIC_FIELDS)
    constants = f"local FIELDS = {{{names}}}\nlocal CHANNEL = '{OWNER_CHANNEL_PREFIX}'\n"
    return constants + "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))
