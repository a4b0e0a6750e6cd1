"""What a job's processes may take: memory, and time without a sign of life. Who takes more is killed, alone."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.processes import runs
from tests.support.waiting import wait_until
from tests.workers.executors.conftest import DEEDS, Bench, Recorder, bench_with, marked
from workers.executors import process
from workers.executors.watch import Limits
from workers.outcome import AttemptFailed, Result

LIMIT_MB = 256
STALL_SECONDS = 4


@pytest.fixture(scope="module")
async def narrow_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """Its jobs may have little memory."""
    limits = Limits(max_rss_mb=LIMIT_MB, stall_seconds=60)
    async with bench_with(DEEDS, workspace=tmp_path_factory.mktemp("narrow"), limits=limits) as bench:
        yield bench


@pytest.fixture(scope="module")
async def impatient_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """Its jobs must soon show a sign of life."""
    limits = Limits(max_rss_mb=1024, stall_seconds=STALL_SECONDS)
    async with bench_with(DEEDS, workspace=tmp_path_factory.mktemp("impatient"), limits=limits) as bench:
        yield bench


async def failure_of(job: asyncio.Task[Result]) -> AttemptFailed:
    """Wait for a job's failure."""
    with pytest.raises(AttemptFailed) as caught:
        await asyncio.wait_for(job, 30)
    return caught.value


async def test_a_job_that_takes_too_much_memory_is_killed_and_its_neighbour_is_not(narrow_bench: Bench) -> None:
    recorder = Recorder()
    neighbour = narrow_bench.start("wait", recorder)
    await recorder.committed()
    failed = await failure_of(narrow_bench.start("allocate", Recorder(), number=LIMIT_MB + 100))
    assert failed.kind == "out-of-memory"
    assert failed.detail.endswith(f"MiB of memory, and {LIMIT_MB} MiB are allowed.")
    assert not failed.fatal, "it is tried again"
    assert not neighbour.done()
    neighbour.cancel()
    await asyncio.wait([neighbour])
    assert await narrow_bench.do("nothing") == Result()


async def test_what_a_job_has_started_counts_in_whatever_session_and_dies_with_it(narrow_bench: Bench) -> None:
    work = narrow_bench.start("have_a_child_allocate", Recorder(), number=LIMIT_MB + 100, text="mark-of-the-large")
    assert (await failure_of(work)).kind == "out-of-memory"
    assert marked("mark-of-the-large") == []


@pytest.mark.parametrize("deed", ["read_a_mapped_file", "share_with_forks"])
async def test_what_takes_no_memory_from_others_does_not_count(narrow_bench: Bench, deed: str) -> None:
    """A mapped file, which the kernel drops when it needs the room; and pages that forks have in common, but once."""
    recorder = Recorder()
    number = LIMIT_MB + 100 if deed == "read_a_mapped_file" else LIMIT_MB - 100
    assert await narrow_bench.do(deed, number=number, recorder=recorder) == Result()
    assert (await recorder.committed())["resident"] >= number


async def test_who_shows_no_sign_of_life_is_killed_and_who_waits_or_computes_is_not(impatient_bench: Bench) -> None:
    """SIGSTOP, as by an operator who forgot it; a call into C that keeps the interpreter's lock, and waits for ever.

    Such a call may take minutes as long as it computes; and who lets go of the lock may wait.
    """
    recorders = Recorder(), Recorder()
    silent = [impatient_bench.start(deed, Recorder()) for deed in ("stop", "sleep_with_the_lock")]
    living = [
        impatient_bench.start(deed, recorder)
        for deed, recorder in zip(("wait", "compute_with_the_lock"), recorders, strict=True)
    ]
    for recorder in recorders:
        await recorder.committed()
    for work in silent:
        failed = await failure_of(work)
        assert failed.kind == "stalled"
        assert failed.detail == f"The job's process showed no sign of life for {STALL_SECONDS} seconds."
        assert not failed.fatal, "it is tried again"
    await asyncio.wait(living, timeout=STALL_SECONDS * 0.75)
    assert not any(work.done() for work in living)
    for work in living:
        work.cancel()
    await asyncio.wait(living)


async def test_a_job_that_stands_still_may_do_so_for_ever_if_it_is_so_configured(tmp_path: Path) -> None:
    async with bench_with(DEEDS, workspace=tmp_path, limits=Limits(max_rss_mb=1024, stall_seconds=0)) as bench:
        work = bench.start("stop", Recorder())
        await asyncio.wait([work], timeout=2)
        assert not work.done()
        work.cancel()
        await asyncio.wait([work])
        assert bench.server.children() == [], "a stopped process can be killed all the same"


LEAKING = """
import os
from tests.workers.executors.deeds import deed

leaked = []
os.register_at_fork(after_in_parent=lambda: leaked.append(b"x" * (40 << 20)))
deed.__module__ = __name__
"""


async def test_a_fork_server_that_leaks_is_replaced_when_it_has_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may have set up hooks for forks, which run in the fork server, and may leak there."""
    (tmp_path / "leaking.py").write_text(LEAKING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    limits = Limits(max_rss_mb=LIMIT_MB, stall_seconds=60)
    async with bench_with("leaking", workspace=tmp_path, limits=limits) as bench:
        await bench.do("nothing")
        first = bench.server
        recorder = Recorder()
        running = bench.start("wait", recorder)
        await recorder.committed()
        for _ in range(4):
            await bench.do("nothing")
        assert bench.server == first, "its jobs would die with it"
        running.cancel()
        await asyncio.wait([running])
        await bench.do("nothing")
        assert bench.server != first
        assert not runs(first.pid)


async def test_a_fork_server_that_stands_still_is_killed_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would hear of its jobs' ends, and the engine would keep their leases for ever."""
    monkeypatch.setattr(process, "ASK_SECONDS", 0.5)
    async with bench_with(DEEDS, workspace=tmp_path, limits=Limits(max_rss_mb=1024, stall_seconds=2)) as bench:
        recorder = Recorder()
        work = bench.start("wait", recorder)
        pid = (await recorder.committed())["pid"]
        bench.server.suspend()
        assert (await failure_of(work)).kind == "worker-lost"

        async def gone() -> bool:
            return not runs(pid)

        await wait_until(gone, what="the end of the job")
        assert await bench.do("nothing") == Result()


async def test_somebody_elses_kill_is_told_as_such(narrow_bench: Bench) -> None:
    with pytest.raises(AttemptFailed, match="killed by SIGKILL") as caught:
        await narrow_bench.do("die", number=signal.SIGKILL)
    assert caught.value.kind == "worker-lost"


@contextlib.contextmanager
def control_group(name: str, mib: int) -> Iterator[Path]:
    """Make a control group below our own with so little memory; skip the test where that cannot be done."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controller, path = line.split(":", 2)
        if controller == "memory":
            group, limit = Path("/sys/fs/cgroup/memory") / path[1:] / name, "memory.limit_in_bytes"
            break
    else:
        group, limit = Path("/sys/fs/cgroup") / path[1:] / name, "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(mib << 20))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip("no control group with a memory limit can be made here")
    try:
        yield group
    finally:
        group.rmdir()


async def test_a_job_that_the_kernel_kills_for_want_of_memory_is_told_as_such(tmp_path: Path) -> None:
    """The group's memory ends before the job's limit is reached. The kernel prefers the job to the fork server."""
    with control_group(f"longhaul-{os.getpid()}", 200) as group:
        async with bench_with(DEEDS, workspace=tmp_path) as bench:
            await bench.do("nothing")
            (group / "cgroup.procs").write_text(str(bench.server.pid))
            server = bench.server
            failed = await failure_of(bench.start("allocate", Recorder(), number=500))
            assert failed.kind == "out-of-memory"
            assert failed.detail == "The memory was used up, and the kernel killed the job's process."
            assert bench.server == server
            await bench.do("nothing")
            with pytest.raises(AttemptFailed, match="killed by SIGKILL") as caught:  # and the next one is told apart
                await bench.do("die", number=signal.SIGKILL)
            assert caught.value.kind == "worker-lost"
