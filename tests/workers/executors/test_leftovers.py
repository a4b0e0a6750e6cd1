"""What a job has started never outlives it: not its end, not its cancellation, not the death of anybody above it."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from app.domain.errors import LeaseLost
from tests.support.processes import runs
from tests.support.waiting import wait_until
from tests.workers.executors.conftest import (
    ROOT,
    Bench,
    Recorder,
    bench_with,
    marked,
    wait_until_gone,
    wait_until_there,
)
from tests.workers.executors.deeds import CHILDREN
from workers.outcome import AttemptFailed, Result


async def test_what_a_job_started_dies_with_its_end_also_while_others_run(bench: Bench) -> None:
    """A plain child, one in a session of its own, an orphan and a multiprocessing worker's child."""
    other, recorder = Recorder(), Recorder()
    neighbour = bench.start("wait_deaf", other, text="mark-of-the-neighbour")
    await other.committed()
    await wait_until_there("mark-of-the-neighbour", CHILDREN)

    await bench.do("leave_children", text="mark-of-the-ended", recorder=recorder)

    assert marked("mark-of-the-ended") == []
    assert len(marked("mark-of-the-neighbour")) == CHILDREN, "a neighbour's children are not touched"
    neighbour.cancel()
    await asyncio.wait([neighbour])


async def test_a_cancelled_job_is_gone_when_the_call_returns_deaf_to_signals_or_not(bench: Bench) -> None:
    recorder = Recorder()
    work = bench.start("wait_deaf", recorder, text="mark-of-the-cancelled")
    pid = (await recorder.committed())["pid"]
    await wait_until_there("mark-of-the-cancelled", CHILDREN)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    assert marked("mark-of-the-cancelled") == []
    assert not Path(f"/proc/{pid}").exists()
    assert await bench.do("nothing") == Result()


async def test_a_job_cancelled_while_it_waits_for_an_answer_is_gone(bench: Bench) -> None:
    recorder = Recorder(slow_commit=asyncio.Event())
    work = bench.start("leave_children", recorder, text="mark-of-the-unanswered")
    await wait_until_there("mark-of-the-unanswered", CHILDREN)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    assert marked("mark-of-the-unanswered") == []


async def test_a_job_that_lost_its_lease_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(LeaseLost):
        await bench.do("commit_twice", text="mark-of-the-late", recorder=Recorder(lose_at_commit=2))
    assert marked("mark-of-the-late") == []


ENGINE = """
    import asyncio, os, sys
    from pathlib import Path
    from uuid import UUID
    from tests.workers.executors.conftest import DEEDS, WIDE, Recorder
    from tests.workers.executors.deeds import Deed
    from workers.executors.process import ProcessExecutor
    from workers.job import JobContext

    async def run():
        executor = ProcessExecutor([DEEDS], WIDE)
        context = JobContext(task_id=UUID(int=0xDEAD), attempt=1, token=1, checkpoint=None, datasets={},
                             workspace=Path("/tmp"))
        jobs = [executor.run(context, Deed(what=what, text=sys.argv[1]), Recorder(), asyncio.Event())
                for what in ("wait_deaf", "wait_deaf", "wait")]
        await asyncio.gather(*jobs)

    asyncio.run(run())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_when_the_engine_is_killed_its_jobs_and_all_that_they_started_are_gone(number: signal.Signals) -> None:
    mark = f"mark-of-the-engine-{number.name}"
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", textwrap.dedent(ENGINE), mark]
    engine = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    try:
        await wait_until_there(mark, 2 * CHILDREN + 1)
        await wait_until_there(f"longhaul: deed {'0' * 8}-{'0' * 4}", 3)
        below = {process.pid for process in psutil.Process(engine.pid).children(recursive=True)}
        assert len(below) >= 1 + 3 + 2 * CHILDREN
    finally:
        engine.send_signal(number)
        engine.wait()

    await wait_until_gone(mark)
    await wait_until_gone("0000-00000000dead")

    async def all_gone() -> bool:
        return not any(map(runs, below))

    await wait_until(all_gone, what="the end of everything below the engine")


async def test_when_the_fork_server_is_killed_its_jobs_fail_and_the_next_one_works(own_bench: Bench) -> None:
    recorder = Recorder()
    work = own_bench.start("wait", recorder)
    other = own_bench.start("leave_children", Recorder(slow_commit=asyncio.Event()), text="mark-of-the-serverless")
    pid = (await recorder.committed())["pid"]
    await wait_until_there("mark-of-the-serverless", CHILDREN)
    grandchildren = marked("mark-of-the-serverless")
    in_group = [process for process in grandchildren if os.getsid(process) != process]
    own_bench.server.kill()

    for job in (work, other):
        with pytest.raises(AttemptFailed, match="The job's process was lost"):
            await asyncio.wait_for(job, 15)

    async def gone() -> bool:
        return not any(map(runs, [pid, *in_group]))

    await wait_until(gone, what="the end of the jobs and of what is in their groups")
    assert await own_bench.do("nothing") == Result()
    for process in marked("mark-of-the-serverless"):  # in sessions of their own: nobody is left who knows them
        os.kill(process, signal.SIGKILL)


async def test_a_fork_server_that_dies_with_unread_orders_fails_them(own_bench: Bench) -> None:
    """The kernel then says ECONNRESET, not end of file; a job that waited for ever would keep its lease for ever."""
    await own_bench.do("nothing")
    server = own_bench.server
    server.suspend()
    jobs = [own_bench.start("nothing", Recorder()) for _ in range(3)]
    await asyncio.wait(jobs, timeout=0.2)
    server.kill()
    for job in jobs:
        with pytest.raises(AttemptFailed, match="The job's process"):
            await asyncio.wait_for(job, 15)
    assert await own_bench.do("nothing") == Result()


async def test_a_job_cancelled_while_the_fork_server_starts_leaves_nothing(own_bench: Bench) -> None:
    jobs = [own_bench.start("wait", Recorder()) for _ in range(3)]
    await asyncio.sleep(0)
    for job in jobs:
        job.cancel()
    await asyncio.wait(jobs)
    assert all(job.cancelled() for job in jobs)
    assert await own_bench.do("nothing") == Result()
    assert own_bench.server.children() == []


async def test_more_jobs_at_once_than_the_control_socket_takes_all_end(own_bench: Bench) -> None:
    """While the fork server starts, hundreds of orders wait in the socket."""
    jobs = [own_bench.start("nothing", Recorder()) for _ in range(400)]
    results = await asyncio.wait_for(asyncio.gather(*jobs), 30)
    assert results == [Result()] * 400


async def test_a_hundred_jobs_leave_no_descriptor_no_zombie_and_no_process(own_bench: Bench) -> None:
    await own_bench.do("nothing")
    ours, theirs = _descriptors(os.getpid()), _descriptors(own_bench.server.pid)
    for _ in range(25):
        deeds = [own_bench.start(what, Recorder(), text="mark-of-the-hundred") for what in ("nothing", "save", "fail")]
        cancelled = own_bench.start("wait", Recorder())
        await asyncio.wait(deeds)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert isinstance(deeds[2].exception(), AttemptFailed)
    assert _descriptors(os.getpid()) <= ours
    assert _descriptors(own_bench.server.pid) <= theirs
    assert own_bench.server.children() == []
    assert own_bench.executor._children == {}


REFUSING = """
import os
from tests.workers.executors.deeds import Deed
from workers import handles

def fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")

os.fork = fork

@handles(Deed)
def refused(job, params): ...
"""


async def test_a_process_that_cannot_be_forked_is_a_failure_and_the_fork_server_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refusing.py").write_text(REFUSING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    async with bench_with("refusing", workspace=tmp_path) as refusing:
        for _ in range(2):
            with pytest.raises(AttemptFailed, match="could not be started: Resource temporarily unavailable"):
                await refusing.do("nothing")
        assert refusing.server.is_running()


async def test_handlers_that_the_fork_server_cannot_import_fail_their_jobs(tmp_path: Path) -> None:
    """The engine has imported them; but a job must not wait for ever should the fork server fail to."""
    async with bench_with("no_such_module", workspace=tmp_path) as broken:
        with pytest.raises(AttemptFailed, match="The job's process was lost"):
            await asyncio.wait_for(broken.do("nothing"), 10)


async def test_closing_the_executor_ends_the_fork_server_and_its_jobs(own_bench: Bench) -> None:
    recorder = Recorder()
    work = own_bench.start("wait_deaf", recorder, text="mark-of-the-closed")
    await recorder.committed()
    server = own_bench.server
    await own_bench.executor.aclose()
    await asyncio.wait([work], timeout=15)
    assert work.cancelled(), "no end is made up for it"
    assert not server.is_running()
    assert marked("mark-of-the-closed") == []


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
