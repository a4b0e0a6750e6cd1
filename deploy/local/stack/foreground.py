"""`run` and `supervise`: the supervisor itself, in this process, until it is told to stop; and `demo`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from stack.background import FAILED, READY, stack_log
from stack.description import Description
from stack.errors import StackError, Stopped
from stack.records import SupervisorLock
from stack.settings import REPOSITORY, RUN_DIRECTORY, StackSettings
from stack.supervisor import Supervisor
from stack.terminal import addresses, say

DEMO: Final = REPOSITORY / "deploy" / "local" / "demo.py"


def supervise(settings: StackSettings, lock_descriptor: int) -> None:
    """Be the supervisor behind `up`: say on standard output how the start goes, then let go of it and write to the log.

    Args:
        settings: Of the stack.
        lock_descriptor: The open lock file, which `up` holds and hands on.
    """
    lock = SupervisorLock(settings.run_directory, descriptor=lock_descriptor)
    lock.sign()
    teller = _Teller(stack_log(settings))
    supervisor = Supervisor(settings, say=teller)
    _stop_on_signals(supervisor)
    try:
        supervisor.start()
        teller.finish(READY)
        supervisor.watch()
    except Stopped:
        pass
    except StackError as error:
        supervisor.stop()  # first: nothing runs any more when `up` says that it failed
        teller.finish(f"{FAILED}{error}")
    finally:
        supervisor.stop()
        lock.release()


def run(settings: StackSettings) -> None:
    """Start the stack here, run the demo, and stay until Ctrl-C or SIGTERM, which stop everything.

    Raises:
        StackError: It cannot be started; nothing of it runs then.
    """
    lock = SupervisorLock(settings.run_directory)
    if not lock.take():
        raise StackError("the stack is up already: `make demo` uses it, `make down` stops it")
    lock.sign()
    supervisor = Supervisor(settings, say=say)
    _stop_on_signals(supervisor)
    try:
        supervisor.start()
        assert supervisor.description is not None
        if _run_demo(settings, supervisor):
            _say_where_to_look(supervisor.description)
            supervisor.watch()
    except Stopped:
        pass
    finally:
        say("stopping")
        supervisor.stop()
        lock.release()


def demo(settings: StackSettings) -> NoReturn:
    """Become the demo script, on the stack that runs."""
    os.execve(sys.executable, [sys.executable, str(DEMO)], _demo_environment(settings))


def _demo_environment(settings: StackSettings) -> dict[str, str]:
    return {**os.environ, RUN_DIRECTORY[0]: str(settings.run_directory)}


def _run_demo(settings: StackSettings, supervisor: Supervisor) -> bool:
    """Submit the demo job and show how it goes; False when the stack is to stop instead."""
    child = subprocess.Popen([sys.executable, DEMO], env=_demo_environment(settings), start_new_session=True)
    try:
        while child.poll() is None:
            if supervisor.stopping.is_set():
                return False
            supervisor.look()
            time.sleep(0.1)
    finally:
        if child.poll() is None:
            child.terminate()
        child.wait()
    if child.returncode:
        say(f"the demo failed (exit status {child.returncode}); the logs are in {settings.run_directory / 'logs'}")
    return True


def _say_where_to_look(described: Description) -> None:
    base, token = described.nginx_url, described.tokens.alice
    for line in [
        "",
        "The stack runs until Ctrl-C.",
        *addresses(described),
        "",
        "Try it, as alice, whose token lasts a week:",
        f"  TOKEN={token}",
        f"  curl -s {base}/v1/workload -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\",
        '       -d \'{"action": "generate_report", "id": 1024}\'',
        f'  curl -s {base}/v1/workload/status/TASK_ID -H "Authorization: Bearer $TOKEN"',
    ]:
        say(line)


def _stop_on_signals(supervisor: Supervisor) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        supervisor.stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


class _Teller:
    """Says each line to the log, and until the stack is ready also to `up`, on standard output."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._to_up: Callable[[str], None] | None = say

    def __call__(self, line: str) -> None:
        with self._log.open("a") as stream:
            stream.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")
        if self._to_up:
            self._to_up(line)

    def finish(self, line: str) -> None:
        """Say the last line to `up`, which reads on until then."""
        self(line)
        self._to_up = None
        # To /dev/null rather than closed: file descriptor 1 would go to the next file that is opened.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
