"""Keeper: runs every duty in turn, on the leader; the others only try to become it."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from app.cancelling import is_cancelled
from app.domain.errors import ConfigurationError, LonghaulError
from app.observability.logging import get_log
from app.store.leadership import Leadership

PAUSE_SECONDS: Final = 2.0

log = get_log("housekeeping")


class Duty(Protocol):
    """Something that is done again and again."""

    async def perform(self) -> None:
        """Do one round; a LonghaulError ends it, and the next round begins anew."""


class Keeper:
    """Keeps house for as long as this worker-engine leads."""

    def __init__(self, leadership: Leadership, duties: Sequence[Duty]) -> None:
        self._leadership = leadership
        self._duties = duties

    async def run(self, stopping: asyncio.Event) -> None:
        """Perform the duties until the engine stops."""
        leading = False
        while not stopping.is_set():
            held = await self._leadership.is_held()
            if held and not leading:
                log.info("keeping house")
            leading = held
            if leading:
                await self._perform_all()
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await stopping.wait()
            except TimeoutError:
                continue
        if leading:
            await self._leadership.resign()

    async def _perform_all(self) -> None:
        for duty in self._duties:
            try:
                await duty.perform()
            except ConfigurationError:
                raise
            except LonghaulError as error:
                log.warning("a duty was put off", duty=type(duty).__name__, reason=error.detail)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                log.warning("a duty was put off", duty=type(duty).__name__, reason="Its connection was given up.")
