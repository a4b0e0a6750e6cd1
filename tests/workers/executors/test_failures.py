"""How a `def` handler fails: its owner reads what it said, the log learns where, and the next job is untouched."""

import asyncio
import signal

import pytest

from tests.workers.executors.conftest import Bench, Recorder
from workers.outcome import AttemptFailed, Result


async def test_an_exception_is_told_to_the_owner_without_a_traceback_and_its_place_to_the_log(bench: Bench) -> None:
    with pytest.raises(AttemptFailed) as caught:
        await bench.do("fail", text="a marker that only the owner may read")
    failure = caught.value
    assert failure.detail == "SecretError: a marker that only the owner may read"
    assert "Traceback" not in failure.detail
    assert failure.where.startswith("SecretError at /")
    assert "deeds.py:" in failure.where
    assert "marker" not in failure.where


async def test_an_endless_exception_is_cut(bench: Bench) -> None:
    with pytest.raises(AttemptFailed) as caught:
        await bench.do("fail", text="x" * 50_000)
    assert len(caught.value.detail) == 500


async def test_an_exception_that_cannot_be_described_is_a_failure_all_the_same(bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match="Dumb: "):
        await bench.do("fail_without_words")


async def test_half_a_character_in_a_handlers_words_harms_nothing(bench: Bench) -> None:
    """A file name that is not UTF-8 has such halves (PEP 383); neither Redis nor JSON takes them."""
    recorder = Recorder()
    with pytest.raises(AttemptFailed) as caught:
        await bench.do("fail_with_half_a_character", recorder=recorder)
    assert caught.value.detail == "SecretError: half ?"
    assert recorder.reports == [(50, "half ?")]


async def test_a_handler_that_returns_something_else_has_failed(bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match=r"TypeError: a handler returns what job\.save returned"):
        await bench.do("return_a_number")


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("way", ["leave", "call_exit"])
async def test_a_handler_that_ends_its_process_has_failed(bench: Bench, way: str, number: int) -> None:
    """sys.exit() and os._exit() are no result, not even with status 0."""
    with pytest.raises(AttemptFailed, match=r"The job's process ended with status \d, without a result\."):
        await bench.do(way, number=number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
async def test_a_killed_process_is_a_failure_that_names_the_signal(bench: Bench, number: signal.Signals) -> None:
    """SIGKILL is what the kernel's OOM killer sends."""
    with pytest.raises(AttemptFailed, match=f"The job's process was killed by {number.name}"):
        await bench.do("die", number=number)


async def test_a_segfault_is_a_failure_and_harms_no_other_job(bench: Bench) -> None:
    neighbour = Recorder()
    waiting = bench.start("wait", neighbour)
    await neighbour.committed()
    with pytest.raises(AttemptFailed, match="The job's process was killed by SIGSEGV"):
        await bench.do("segfault")
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await bench.do("nothing") == Result()


async def test_a_handler_that_closes_its_output_has_a_result(bench: Bench) -> None:
    assert await bench.do("close_output") == Result()


async def test_a_handler_that_closes_the_pipe_has_failed(bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match="The job's process ended with status 1, without a result"):
        await bench.do("close_everything")
