"""A `def` handler runs in a process of its own: what it is given, what it may say, and what comes of it."""

import asyncio
import time
from pathlib import Path

import pytest

from app.domain.errors import LeaseLost, StoreUnavailable
from tests.workers.executors.conftest import Bench, Recorder, marked, wait_until_gone
from workers.outcome import AttemptFailed, Result


async def test_a_handler_that_returns_nothing_has_an_empty_result(bench: Bench) -> None:
    assert await bench.do("nothing") == Result()


async def test_a_saved_file_is_the_result(bench: Bench) -> None:
    recorder = Recorder()
    result = await bench.do("save", text="hello", recorder=recorder)
    assert recorder.saved == {"hello.txt": b"hello"}
    assert result.file
    assert (result.file.filename, result.file.size) == ("hello.txt", 5)


async def test_a_handler_sees_its_task_its_checkpoint_and_the_datasets(bench: Bench) -> None:
    recorder = Recorder()
    await bench.do("tell_context", recorder=recorder)
    told = await recorder.committed()
    assert told["checkpoint"] == {"step": 3}
    assert told["attempt"] == 2
    assert told["datasets"] == {"7": "Seven"}
    assert Path(told["workspace"]).is_dir()


async def test_a_job_carries_its_task_in_its_title_and_nothing_that_is_not_its_own(bench: Bench) -> None:
    """One thread in the fork server, nothing heavy in it, and no socket but the job's own pipe in the job."""
    other, recorder = Recorder(), Recorder()
    waiting = bench.start("wait", other)
    await other.committed()
    context = bench.context()
    await bench.do("tell_process", recorder=recorder)
    told = await recorder.committed()
    waiting.cancel()
    await asyncio.wait([waiting])

    assert told["title"].startswith("longhaul: deed 00000000-")
    assert told["title"].endswith(f"{context.task_id.int + 1:012x}")
    assert told["server_threads"] == told["threads"] == 1
    assert told["heavy"] == []
    assert len(told["sockets"]) == 1, told
    assert told["pipes"] == [], told
    assert told["inheritable"] == [], told
    assert "" not in told["path"], "what lies in the current directory is not imported"


async def test_progress_comes_together_and_its_last_word_is_not_lost(bench: Bench) -> None:
    recorder = Recorder()
    await bench.do("report_in_a_rush", number=20_000, recorder=recorder)
    assert len(recorder.reports) < 200
    assert recorder.reports == sorted(recorder.reports, key=lambda report: report[0])
    assert recorder.reports[-1] == (100, "all rows")


async def test_log_lines_come_in_order_and_too_many_are_left_out_and_counted(bench: Bench) -> None:
    recorder = Recorder()
    await bench.do("log_in_a_rush", number=20_000, recorder=recorder)
    said = [record.message for record in recorder.log_lines]
    assert said[:4] == ["first", "second", "row 0", "row 1"]
    assert recorder.log_lines[0].level == "warning"
    notices = [int(words[1:].split()[0]) for words in said if words.endswith("lines were left out)")]
    assert len(said) - len(notices) + sum(notices) == 20_002
    assert len(said) < 15_000


async def test_what_a_job_logged_before_it_was_killed_is_not_lost(bench: Bench) -> None:
    recorder = Recorder()
    with pytest.raises(AttemptFailed):
        await bench.do("log_and_die", recorder=recorder)
    assert [record.message for record in recorder.log_lines] == ["last words"]


async def test_an_endless_message_is_cut_and_is_one_line(bench: Bench) -> None:
    recorder = Recorder()
    await bench.do("report_at_length", recorder=recorder)
    percent, message = recorder.reports[-1]
    assert percent == 50
    assert message is not None
    assert message.startswith("word word")
    assert len(message) <= 500


async def test_a_commit_returns_only_when_it_is_stored(bench: Bench) -> None:
    recorder = Recorder(slow_commit=asyncio.Event())
    work = bench.start("leave_children", recorder, text="unused-marker")
    done, _ = await asyncio.wait([work], timeout=0.5)
    assert not done
    assert recorder.slow_commit
    recorder.slow_commit.set()
    await work
    assert len(recorder.checkpoints) == 1


async def test_a_checkpoint_that_is_no_json_or_too_large_is_refused_in_the_handler(bench: Bench) -> None:
    """A set, NaN, bytes, a nest, one byte over 64 KiB, two megabytes: each a ValueError, none ends the job."""
    recorder = Recorder()
    await bench.do("commit_what_cannot_be", recorder=recorder)
    assert recorder.checkpoints == [{"refused": 6}]


async def test_a_lost_lease_reaches_the_handler_and_comes_out_as_such(bench: Bench) -> None:
    recorder = Recorder(lose_at_commit=2)
    with pytest.raises(LeaseLost):
        await bench.do("commit_twice", text="lease-marker", recorder=recorder)
    assert recorder.checkpoints == [{"step": 1}]
    assert marked("lease-marker") == []


async def test_a_file_that_is_not_there_is_an_oserror_in_the_handler(bench: Bench) -> None:
    recorder = Recorder()
    await bench.do("save_what_is_not_there", recorder=recorder)
    assert recorder.reports == [(50, "OSError")]
    assert recorder.saved == {}


async def test_a_result_store_that_is_away_fails_the_attempt_and_says_so(bench: Bench) -> None:
    recorder = Recorder(save_error=StoreUnavailable("The result file could not be stored."))
    with pytest.raises(AttemptFailed, match="The result file could not be stored"):
        await bench.do("save", text="x", recorder=recorder)


async def test_two_jobs_run_at_once(bench: Bench) -> None:
    first, second = Recorder(), Recorder()
    jobs = [bench.start("wait", first), bench.start("wait", second)]
    pids = {(await first.committed())["pid"], (await second.committed())["pid"]}
    assert len(pids) == 2
    for job in jobs:
        job.cancel()
    await asyncio.wait(jobs)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_what_a_handler_prints_comes_out_with_the_engines_output(
    bench: Bench, capfd: pytest.CaptureFixture[str], own_bench: Bench
) -> None:
    """Also without a line of its own in the log: it is flushed before the process ends."""
    await own_bench.do("say", text="printed by a handler")
    assert "printed by a handler\n" in capfd.readouterr().out


async def test_the_start_of_a_job_is_cheap(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured and shown, not asserted: a number depends on the machine."""
    await bench.do("nothing")
    began = time.perf_counter()
    for _ in range(20):
        await bench.do("nothing")
    each = (time.perf_counter() - began) / 20
    with capsys.disabled():
        print(f"\n  a job in a process of its own: {each * 1000:.1f} ms from order to end")


async def test_a_huge_file_name_is_refused_in_the_handler(bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match="ValueError: this is too much to be told at once"):
        await bench.do("save_under_a_huge_name")


async def test_everything_of_these_tests_is_gone_when_their_jobs_are(bench: Bench) -> None:
    recorder = Recorder()
    await bench.do("leave_children", text="marker-of-the-last", recorder=recorder)
    await wait_until_gone("marker-of-the-last", within=0.2)
