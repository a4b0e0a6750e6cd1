"""Warm starts: our programs as processes of their own, forked from one that has imported them already.

A test's session starts some two hundred APIs and workers, and each would import the same thousand modules for a second
of CPU. What is forked here is not under test: a program's `main` runs with its own arguments, environment, session and
output. The tests of the command line (tests/cli, tests/stack, …) start the installed programs.

    process = WarmProcess(["longhaul", "serve", "--config", file], log=log, environment=environment)
"""

import asyncio
import gc
import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from setproctitle import setproctitle

from app.prctl import end_with_parent
from stack.processes import PAUSE, Identity, Process

PROGRAMS: Final = {"longhaul": "app.cli.main", "worker-engine": "workers.cli"}
IMPORTED: Final = (
    *PROGRAMS.values(),
    "app.api.server",
    "app.archive.upgrading",
    "app.main",
    "sqlalchemy.dialects.sqlite.pysqlite",
)
ROOT: Final = Path(__file__).parents[2]
MESSAGE_BYTES: Final = 256 * 1024


class Starter:
    """This side of the process that forks."""

    _of_session: "Starter | None" = None

    def __init__(self) -> None:
        assert threading.current_thread() is threading.main_thread(), "it would die with this thread"
        self._asking = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "deploy" / "local")))},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @classmethod
    def of_session(cls) -> "Starter":
        """Return the one that all tests of this process share; it dies with it."""
        if cls._of_session is None:
            cls._of_session = cls()
        return cls._of_session

    def ask(self, **order: Any) -> int:
        """Have something done; return the answer."""
        with self._asking:
            self._control.send(json.dumps(order).encode())
            answer = self._control.recv(MESSAGE_BYTES)
        assert answer, "the process that forks has died"
        return int(answer)


class _Forked:
    """A process that was forked there, with what `Process` wants of a Popen."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self._starter = starter
        self.pid = pid
        self.returncode: int | None = None

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + timeout if timeout is not None else None
        while self.returncode is None and Identity.of(self.pid):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} does not end")
            time.sleep(PAUSE)
        if self.returncode is None:
            self.returncode = self._starter.ask(reap=self.pid)
        return self.returncode


class WarmProcess(Process):
    """As `Process`, for one of our programs; it dies with the tests' process."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str]) -> None:
        words = [str(word) for word in command]
        assert words[0] in PROGRAMS
        log.touch()
        starter = Starter.of_session()
        self.pid = starter.ask(start=words, log=str(log), environment=dict(environment))
        self._child: Any = _Forked(starter, self.pid)

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._child.returncode is None and Identity.of(self.pid) is not None


async def run_warm(command: Sequence[str | Path], *, directory: Path, environment: Mapping[str, str]) -> str:
    """Run a command to its end; return what it says, for which a file is made in `directory`.

    Raises:
        AssertionError: It fails.
    """
    output = directory / f"command-{next(_numbers)}.out"
    process = WarmProcess(command, log=output, environment=environment)
    try:
        status = await asyncio.to_thread(process._child.wait)
    finally:
        process.kill()
    assert status == 0, output.read_text()
    return output.read_text()


_numbers = itertools.count(1)


def _serve(control: socket.socket) -> dict[str, Any]:
    """Fork and reap as asked; return, in a child, what it is to become."""
    us = os.getpid()
    while message := control.recv(MESSAGE_BYTES):
        order: dict[str, Any] = json.loads(message)
        if "reap" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["reap"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                end_with_parent(us, signal.SIGKILL)
                return order
            os.setpgid(answer, answer)  # here, so that it may be killed with its group from now on
        control.send(str(answer).encode())
    os._exit(0)


def _become(order: dict[str, Any]) -> None:
    """Run a program as if it had been started from a shell."""
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = order["start"]
    setproctitle(" ".join(sys.argv))
    importlib.import_module(PROGRAMS[sys.argv[0]]).main()


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        work = _serve(control)
    _become(work)
