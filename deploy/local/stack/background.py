"""`up` and `down`: a supervisor that lives on in the background, found again by its lock."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from stack.description import NAME, Description
from stack.errors import StackError
from stack.records import Records, SupervisorLock
from stack.settings import StackSettings
from stack.terminal import addresses, say

READY: Final = "ready"
FAILED: Final = "failed: "
START_SECONDS: Final = 180.0  # for another `up` that is at it already
STOP_SECONDS: Final = 90.0  # a worker may take its 45 s


def up(settings: StackSettings) -> None:
    """Start a supervisor in the background; return when the stack is ready. Nothing is done when it is already.

    Raises:
        StackError: It cannot be started, and nothing of it runs.
    """
    lock = SupervisorLock(settings.run_directory)
    deadline = time.monotonic() + START_SECONDS
    while not lock.take():
        if described := Description.read(settings.run_directory):
            say("the stack is up already")
            _say_addresses(settings, described)
            return
        if time.monotonic() > deadline:
            raise StackError(f"the supervisor of {settings.run_directory} does not get ready; see its logs there")
        time.sleep(0.1)  # it is starting, or stopping
    try:
        _start_supervisor(settings, lock)
    finally:
        lock.release()  # the supervisor has a copy
    described = Description.read(settings.run_directory)
    if described is None:
        raise StackError("the stack was stopped again at once")
    say("the stack is up; `make down` stops it")
    _say_addresses(settings, described)


def down(settings: StackSettings) -> None:
    """Stop the stack, whether its supervisor lives or not.

    Raises:
        StackError: It does not stop.
    """
    if not settings.run_directory.exists():
        say("nothing runs")
        return
    lock = SupervisorLock(settings.run_directory)
    supervisor = lock.holder()
    if supervisor is not None:
        say("stopping the stack")
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while supervisor.is_alive and time.monotonic() < deadline:
            time.sleep(0.05)
        if supervisor.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor.pid, signal.SIGKILL)
    while not lock.take():  # its end sets the lock free
        if lock.holder() not in (None, supervisor):
            say("the stack was stopped, and started again by somebody else")
            return
        time.sleep(0.05)
    try:
        Description.remove(settings.run_directory)
        left = Records(settings.run_directory).end_leftovers()
    finally:
        lock.release()
    if left:
        say(f"ended what its supervisor had left: {', '.join(left)}")
    say("the stack is down" if supervisor or left else "nothing runs")


def _start_supervisor(settings: StackSettings, lock: SupervisorLock) -> None:
    """Start it, relay what it says until it is ready, and let it go."""
    assert lock.descriptor is not None
    logs = settings.run_directory / "logs"
    logs.mkdir(exist_ok=True)
    with (logs / "supervisor.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "stack", "supervise", "--lock", str(lock.descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=[lock.descriptor],
            start_new_session=True,
        )
    try:
        _follow(child)
    except BaseException:  # Ctrl-C too
        child.terminate()
        child.wait()
        raise


def _follow(supervisor: subprocess.Popen[str]) -> None:
    """Say what it says until it is ready."""
    assert supervisor.stdout is not None
    with supervisor.stdout as lines:
        for line in map(str.rstrip, lines):
            if line == READY:
                supervisor.returncode = 0  # it lives on; Popen must not complain that nobody waits for it
                return
            if line.startswith(FAILED):
                raise StackError(line.removeprefix(FAILED))
            say(line)
    raise StackError("the supervisor ended before the stack was ready; see logs/supervisor.log in its directory")


def _say_addresses(settings: StackSettings, described: Description) -> None:
    for line in addresses(described):
        say(line)
    say(f"  tokens         {settings.run_directory / NAME}")


def stack_log(settings: StackSettings) -> Path:
    """Return where a supervisor in the background writes."""
    return settings.run_directory / "logs" / "supervisor.log"
