"""Keeper: the house is kept on whatever becomes of a round."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from app.store.leadership import Leadership
from tests.support.waiting import PATIENCE
from workers.housekeeping import keeper as keeping
from workers.housekeeping.keeper import Keeper


class GivenUp:
    """A duty whose connection aiormq gives up in its first round: it ends the calls on it with CancelledError."""

    def __init__(self) -> None:
        self.rounds = 0
        self.again = asyncio.Event()

    async def perform(self) -> None:
        self.rounds += 1
        if self.rounds == 1:
            raise asyncio.CancelledError
        self.again.set()


async def test_the_house_is_kept_on_when_a_connection_is_given_up(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "PAUSE_SECONDS", 0.01)
    duty, stopping = GivenUp(), asyncio.Event()
    house = asyncio.create_task(
        Keeper(Leadership(redis, "somebody", lease=timedelta(seconds=10)), [duty]).run(stopping)
    )
    async with asyncio.timeout(15 * PATIENCE):
        await duty.again.wait()
        stopping.set()
        await house
