"""The fork server: a small process that forks one child for each `def` job, and sees to it that none is left behind.

Forking here is cheap, and safe: this process has imported what jobs share, and has no thread, no loop and no
connection. One crash takes one job with it. Every child leads a session of its own, dies with this process
(PR_SET_PDEATHSIG), and whatever it started is killed when it ends. When the engine ends, even by SIGKILL, its end of
the control socket closes, and everything here is killed: this process is the reaper of all orphans below it
(PR_SET_CHILD_SUBREAPER), so that even a grandchild that left its session is found.

    engine → server   {"job": n, "title": t} and the child's socket; {"kill": n}
    server → engine   {"job": n, "pid": p} when it has started; {"job": n, "status": s} when it has ended
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from setproctitle import setproctitle

from workers.executors.child import run_job
from workers.registry import Registry

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
MAX_MESSAGE_BYTES: Final = 4096


class ForkServer:
    """Forks, kills and reaps, as the engine asks."""

    def __init__(self, control: socket.socket, registry: Registry) -> None:
        self._control = control
        self._registry = registry
        self._jobs: dict[int, int] = {}
        """Job number by pid."""
        self._wakeup, wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken up
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the engine decides; its going ends us

    def serve(self) -> None:
        """Serve until the engine's end of the control socket is closed; then kill everything."""
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wakeup], [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 512)
                self._reap()
            if self._control.fileno() in readable:
                words, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 1)
                if not words:
                    break
                self._obey(json.loads(words), fds)
        for pid in self._jobs:
            _kill_group(pid)
        self._kill_strays()

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        if "kill" in message:
            for pid, job in self._jobs.items():
                if job == message["kill"]:
                    _kill_group(pid)
            return
        connection = socket.socket(fileno=fds[0])
        pid = os.fork()
        if pid == 0:
            self._become_child(connection, message["title"])
        connection.close()
        self._jobs[pid] = message["job"]
        self._tell(job=message["job"], pid=pid)

    def _become_child(self, connection: socket.socket, title: str) -> NoReturn:
        status = 1
        try:
            parent = os.getppid()
            os.setsid()
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # it died before we asked to die with it
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._control.close()
            os.close(self._wakeup)
            setproctitle(title)
            run_job(connection, self._registry)
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Note which children have ended, kill what they left behind, and tell the engine."""
        for pid in list(self._jobs):
            # WNOWAIT: until it is reaped its pid, which is its group's id, cannot become another's.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            self._tell(job=self._jobs.pop(pid), status=os.waitstatus_to_exitcode(status))
        if not self._jobs:
            self._kill_strays()
        self._reap_strays()

    def _kill_strays(self) -> None:
        """Kill what is below us and is no job: what a job had started, in a session of its own, before it ended."""
        while strays := [pid for pid in _children() if pid not in self._jobs]:
            for pid in strays:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _reap_strays(self) -> None:
        for pid in _children():
            if pid not in self._jobs:
                os.waitpid(pid, os.WNOHANG)

    def _tell(self, **fields: int) -> None:
        self._control.send(json.dumps(fields).encode())


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not called setsid yet
        os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def main() -> None:
    """Serve on the socket whose number is the first argument, for the handler modules in the others."""
    control = socket.socket(fileno=int(sys.argv[1]))
    setproctitle("longhaul: fork server")
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    ForkServer(control, Registry(sys.argv[2:])).serve()


if __name__ == "__main__":
    main()
