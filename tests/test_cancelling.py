"""Cancelling takes effect, also where a library loses it on the way."""

import asyncio
import gc

import pytest

from app import cancelling
from app.cancelling import cancel


async def endless(*, drops: int, farewell: Exception | None = None) -> None:
    """Go on for ever, and lose so many cancellations, as `asyncio.wait_for` of Python 3.11 may."""
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            drops -= 1
            if drops < 0:
                raise farewell or asyncio.CancelledError from None


async def test_a_task_that_loses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "AGAIN_SECONDS", 0.01)
    tasks = [asyncio.create_task(endless(drops=drops)) for drops in (0, 1, 3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_what_a_cancelled_task_raises_is_nobodys() -> None:
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    try:
        task = asyncio.create_task(endless(drops=0, farewell=OSError("closed")))
        await asyncio.sleep(0)
        await cancel(task)
        del task
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert heard == []
