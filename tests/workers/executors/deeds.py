"""Handlers that behave, and handlers that do not: what the executors' tests have done, in real processes.

The fork server imports this module by its name, from PYTHONPATH.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from app.domain.action import Action
from app.domain.errors import LeaseLost
from workers import BlockingJob, Job, Result, handles


class Deed(Action, name="deed", queue="bench"):
    """What the blocking handler is to do."""

    what: str
    text: str = ""
    number: int = Field(default=0)


class AsyncDeed(Action, name="async_deed", queue="bench"):
    """What the handler on the loop is to do."""

    what: str


class SecretError(Exception):
    """Something that a handler raises."""


def marked_sleep(mark: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that does nothing for long, and that a test finds by its command line."""
    return subprocess.Popen([sys.executable, "-S", "-c", f"import time  # {mark}\ntime.sleep(600)"], **options)


def _sleep_in_child(mark: str) -> None:
    marked_sleep(mark).wait()


def have_children(mark: str) -> None:
    """Leave processes of every kind behind: a plain one, one in a session of its own, an orphan, and a worker's."""
    marked_sleep(mark)
    marked_sleep(mark, start_new_session=True)
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {_SLEEP.format(mark)!r}], "
    subprocess.run([sys.executable, "-S", "-c", script + "start_new_session=True)"], check=True)
    multiprocessing.get_context("fork").Process(target=_sleep_in_child, args=(mark,)).start()


_SLEEP = "import time  # {}\ntime.sleep(600)"
CHILDREN = 4
"""How many processes with its mark `have_children` leaves."""


@handles(Deed)
def deed(job: BlockingJob, params: Deed) -> Any:  # some of them return what they must not
    return getattr(Deeds, params.what)(job, params)


class Deeds:
    """One static method for each thing that can be asked for."""

    @staticmethod
    def nothing(job: BlockingJob, params: Deed) -> None:
        return None

    @staticmethod
    def save(job: BlockingJob, params: Deed) -> Result:
        path = job.workspace / "made.txt"
        path.write_text(params.text)
        return job.save(path, filename=params.text[:20] + ".txt")

    @staticmethod
    def save_what_is_not_there(job: BlockingJob, params: Deed) -> None:
        try:
            job.save(job.workspace / "nothing")
        except OSError as error:
            job.progress(0.5, type(error).__name__)

    @staticmethod
    def save_under_a_huge_name(job: BlockingJob, params: Deed) -> None:
        job.save(job.workspace / "made", filename="x" * 2_000_000)

    @staticmethod
    def tell_context(job: BlockingJob, params: Deed) -> None:
        job.commit(
            {
                "task_id": str(job.task_id),
                "attempt": job.attempt,
                "token": job.token,
                "checkpoint": job.checkpoint,
                "datasets": {dataset_id: dataset.title for dataset_id, dataset in job.datasets.items()},
                "workspace": str(job.workspace),
            }
        )

    @staticmethod
    def tell_process(job: BlockingJob, params: Deed) -> None:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        server = Path(f"/proc/{os.getppid()}/status").read_text()
        fds = {fd.name: str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()}
        job.commit(
            {
                "pid": os.getpid(),
                "title": Path("/proc/self/cmdline").read_bytes().decode().rstrip("\0 "),
                "server_threads": int(server.partition("Threads:")[2].split()[0]),
                "threads": int(status["Threads"]),
                "heavy": sorted({"polars", "matplotlib", "numpy", "pandas"} & set(sys.modules)),
                "sockets": [int(fd) for fd, what in fds.items() if what.startswith("socket:")],
                "pipes": [int(fd) for fd, what in fds.items() if what.startswith("pipe:") and int(fd) > 2],
                "inheritable": [int(fd) for fd in fds if int(fd) > 2 and os.get_inheritable(int(fd))],
                "path": sys.path,
            }
        )

    @staticmethod
    def fail(job: BlockingJob, params: Deed) -> None:
        raise SecretError(params.text)

    @staticmethod
    def fail_without_words(job: BlockingJob, params: Deed) -> None:
        class Dumb(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        raise Dumb

    @staticmethod
    def fail_with_half_a_character(job: BlockingJob, params: Deed) -> None:
        job.progress(0.5, "half \udc80")
        raise SecretError("half \udc80")

    @staticmethod
    def return_a_number(job: BlockingJob, params: Deed) -> int:
        return 7

    @staticmethod
    def leave(job: BlockingJob, params: Deed) -> None:
        os._exit(params.number)

    @staticmethod
    def call_exit(job: BlockingJob, params: Deed) -> None:
        sys.exit(params.number)

    @staticmethod
    def die(job: BlockingJob, params: Deed) -> None:
        os.kill(os.getpid(), params.number)
        time.sleep(60)

    @staticmethod
    def segfault(job: BlockingJob, params: Deed) -> None:
        ctypes.string_at(0)

    @staticmethod
    def say(job: BlockingJob, params: Deed) -> None:
        sys.stdout.write(params.text + "\n")

    @staticmethod
    def close_output(job: BlockingJob, params: Deed) -> None:
        sys.stdout.close()
        sys.stderr.close()

    @staticmethod
    def report_in_a_rush(job: BlockingJob, params: Deed) -> None:
        for number in range(params.number):
            job.progress(number / params.number, f"row {number}")
        job.progress(1, "all rows")

    @staticmethod
    def log_in_a_rush(job: BlockingJob, params: Deed) -> None:
        job.log("first\nsecond", level="warning")
        for number in range(params.number):
            job.log(f"row {number}")

    @staticmethod
    def log_and_die(job: BlockingJob, params: Deed) -> None:
        job.log("last words")
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def report_at_length(job: BlockingJob, params: Deed) -> None:
        job.progress(0.5, "word\n" * 500_000)

    @staticmethod
    def commit_what_cannot_be(job: BlockingJob, params: Deed) -> None:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]
        refused = 0
        for checkpoint in ({1, 2}, float("nan"), {"a": b""}, nested, "x" * 65_535, "x" * 2_000_000):
            try:
                job.commit(checkpoint)
            except ValueError:
                refused += 1
        job.commit({"refused": refused})

    @staticmethod
    def commit_twice(job: BlockingJob, params: Deed) -> None:
        job.commit({"step": 1})
        try:
            job.commit({"step": 2})
        except LeaseLost:
            marked_sleep(params.text)  # proves that the handler saw it
            raise

    @staticmethod
    def wait(job: BlockingJob, params: Deed) -> None:
        job.commit({"pid": os.getpid()})
        time.sleep(600)

    @staticmethod
    def wait_deaf(job: BlockingJob, params: Deed) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        have_children(params.text)
        job.commit({"pid": os.getpid()})
        time.sleep(600)

    @staticmethod
    def leave_children(job: BlockingJob, params: Deed) -> None:
        have_children(params.text)
        job.commit({"pid": os.getpid()})

    @staticmethod
    def close_everything(job: BlockingJob, params: Deed) -> None:
        os.closerange(3, 1000)


@handles(AsyncDeed)
async def async_deed(job: Job, params: AsyncDeed) -> Any:
    import asyncio  # noqa: PLC0415  # the fork server imports this module, and forks nothing that it does not need

    match params.what:
        case "exit":
            sys.exit(3)
        case "await a cancelled future":
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        case "wait":
            await job.progress(0.5, "waiting")
            await asyncio.sleep(600)
        case "fail":
            raise SecretError("a marker")
        case "number":
            return 7
    return None
