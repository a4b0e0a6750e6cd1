"""An `async def` handler runs on the engine's loop, which it must not end."""

import asyncio

import pytest

from tests.workers.executors.conftest import Bench, Recorder
from tests.workers.executors.deeds import AsyncDeed, async_deed
from workers.executors.inline import run_inline
from workers.outcome import AttemptFailed, Result
from workers.registry import Handler

HANDLER = Handler(AsyncDeed, async_deed, async_deed.__module__, blocking=False)


async def do(bench: Bench, what: str, recorder: Recorder | None = None) -> Result:
    return await run_inline(HANDLER, bench.context(), AsyncDeed(what=what), recorder or Recorder())


async def test_a_handler_that_returns_nothing_has_an_empty_result(bench: Bench) -> None:
    assert await do(bench, "nothing") == Result()


async def test_an_exception_is_told_to_the_owner_and_its_place_to_the_log(bench: Bench) -> None:
    with pytest.raises(AttemptFailed) as caught:
        await do(bench, "fail")
    assert caught.value.detail == "SecretError: a marker"
    assert "deeds.py:" in caught.value.where
    assert "marker" not in caught.value.where


async def test_a_handler_that_returns_something_else_has_failed(bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match="TypeError: a handler returns"):
        await do(bench, "number")


async def test_sys_exit_in_a_handler_fails_the_attempt_and_does_not_end_the_engine(bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match="SystemExit: 3"):
        await asyncio.create_task(do(bench, "exit"))


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(bench: Bench) -> None:
    """Taken for ours, it would give the task back to the queue, to be run again at once, for ever."""
    with pytest.raises(AttemptFailed, match="CancelledError"):
        await asyncio.create_task(do(bench, "await a cancelled future"))


async def test_our_own_cancellation_goes_through(bench: Bench) -> None:
    recorder = Recorder()
    work = asyncio.create_task(do(bench, "wait", recorder))
    while not recorder.reports:
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
