"""One child process: started in a session of its own, with its output in a file, and ended by its pid, never by a name.

A session of its own, so that Ctrl-C on the terminal reaches only the supervisor, which then stops everything in order.
A child that has ended is not waited for until `end` or `kill`: so long the kernel keeps its pid, and the id of its
process group, from going to anybody else.

`Identity` is what is left of a child for a later supervisor, whose children they are not: a pid alone may have been
given to another program in the meantime.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stack.errors import StackError

PAUSE = 0.02  # between two looks at a process that is ending


class Process:
    """A running child."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] = os.environ,
        directory: Path | None = None,
        die_with_parent: bool = False,
    ) -> None:
        """Start a program; its output is appended to `log`.

        Args:
            die_with_parent: SIGKILL it when the *thread* that calls this ends, however it ends: for tests, whose runner
                may be killed. It holds for the program itself, not for what that starts.

        Raises:
            StackError: The program is not there or cannot be run.
        """
        # setpriv (util-linux, always there) sets the flag and becomes the program: same pid, no code after fork.
        prefix = ["setpriv", "--pdeathsig", "KILL"] if die_with_parent else []
        with log.open("ab") as output:
            try:
                self._child = subprocess.Popen(
                    [*prefix, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=directory,
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{command[0]} cannot be started: {error.strerror}") from error
        self.pid = self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        if self._child.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None

    def end(self, *, patience: float) -> None:
        """SIGTERM, after `patience` seconds SIGKILL, then whatever is left of its group; returns when it is gone."""
        if self.is_running:
            self._child.terminate()
            deadline = time.monotonic() + patience
            while self.is_running and time.monotonic() < deadline:
                time.sleep(PAUSE)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the process and its group; returns when it is gone."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for another: its pid, and when it was started in which boot of the machine."""

    pid: int
    started: int  # clock ticks since boot, as in /proc/PID/stat: unlike a time of day, it does not move with the clock
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the identity of a living process; None when it has ended, waited for or not."""
        state = _state(pid)
        return cls(pid, state.started, _boot()) if state else None

    @property
    def is_alive(self) -> bool:
        """Whether this very process lives."""
        return Identity.of(self.pid) == self

    def end(self, *, patience: float) -> bool:
        """End it as `Process.end` does, with all of its session; a process that only has its pid is left alone.

        Returns:
            Whether there was anything to end.
        """
        was_alive = self.is_alive
        if was_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + patience
            while self.is_alive and time.monotonic() < deadline:
                time.sleep(PAUSE)
        return self._kill_session() or was_alive

    def _kill_session(self) -> bool:
        """SIGKILL whoever is left of its session; tell whether anybody was."""
        # A session's id is not given to a new process as long as a member is left. So whoever is in this session now,
        # while its first process is gone or still the recorded one, was started by it.
        leader = _state(self.pid)
        if self.boot != _boot() or (leader is not None and leader.started != self.started):
            return False
        members = _members(self.pid)
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        while _members(self.pid):
            time.sleep(PAUSE)
        return bool(members)


@dataclass(frozen=True, slots=True)
class _State:
    session: int
    started: int


def _state(pid: int) -> _State | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # after the name, which may contain anything
    if fields[0] in "ZX":
        return None
    return _State(session=int(fields[3]), started=int(fields[19]))


def _members(session: int) -> list[int]:
    """Return the living processes of a session."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (state := _state(pid)) and state.session == session]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
