"""The fork server: a small process that forks one child for each `def` job, and sees to it that none is left behind.

Forking here is cheap, and safe: this process has imported what jobs share, and has no thread, no loop and no
connection. One crash takes one job with it. Every child leads a session of its own, dies with this process
(PR_SET_PDEATHSIG), and whatever it started is killed when it ends: orphans go to the nearest ancestor that is their
subreaper (PR_SET_CHILD_SUBREAPER), which is their job while it lives and this process afterwards, so that even one that
left its session is found, and is never taken for another job's. When the engine ends, even by SIGKILL, its end of the
control socket closes, and everything here is killed.

    engine → server   {"job": n, "title": t} and the child's socket; {"term": n}; {"kill": n}
    server → engine   {"job": n, "pid": p} when it has started; {"job": n, "status": s} when it has ended and all that
                      it had started is gone; {"job": n, "refused": why} when it could not be started
"""

import contextlib
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
        self._wakeup = os.pipe()
        for end in self._wakeup:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken up
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the engine decides; its going ends us

    def serve(self) -> None:
        """Serve until the engine's end of the control socket is closed; then kill everything."""
        control, wakeup = self._control.fileno(), self._wakeup[0]
        try:
            while True:
                readable, _, _ = select.select([control, wakeup], [], [])
                if wakeup in readable:
                    os.read(wakeup, 512)
                    self._reap()
                if control in readable:
                    words, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 1)
                    if not words:
                        break
                    self._obey(json.loads(words), fds)
        finally:
            for pid in self._jobs:
                _kill_group(pid)
            for pid in self._jobs:
                os.waitpid(pid, 0)  # only now are its orphans ours
            self._jobs.clear()
            self._kill_strays()

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        if "kill" in message:
            for pid, job in self._jobs.items():
                if job == message["kill"]:
                    _kill_group(pid)
            return
        if "term" in message:
            for pid, job in self._jobs.items():
                if job == message["term"]:
                    os.kill(pid, signal.SIGTERM)  # it is not reaped, so its pid is its own
            return
        job = message["job"]
        with socket.socket(fileno=fds[0]) as connection:
            connection.set_inheritable(False)  # what has come over a socket is inheritable
            try:
                pid = os.fork()
            except OSError as error:  # no memory, or too many processes
                self._tell(job=job, refused=error.strerror)
                return
            if pid == 0:
                self._become_child(connection, message["title"])
        self._jobs[pid] = job
        self._tell(job=job, pid=pid)

    def _become_child(self, connection: socket.socket, title: str) -> NoReturn:
        status = 1
        try:
            parent = os.getppid()
            os.setsid()
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # it died before we asked to die with it
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._control.close()
            for end in self._wakeup:
                os.close(end)
            setproctitle(title)
            run_job(connection, self._registry)
            status = 0
        finally:
            with contextlib.suppress(Exception):  # the handler may have closed them
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Note which children have ended, kill what they left behind, and tell the engine."""
        ended: dict[int, int] = {}
        for pid in list(self._jobs):
            # WNOWAIT: until it is reaped its pid, which is its group's id, cannot become another's.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            ended[self._jobs.pop(pid)] = os.waitstatus_to_exitcode(status)
        self._kill_strays()
        for job, status in ended.items():
            self._tell(job=job, status=status)

    def _kill_strays(self) -> None:
        """Kill what is below us and is no job: it was started by one that has ended."""
        while strays := [pid for pid in _children() if pid not in self._jobs]:
            for pid in strays:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _tell(self, **fields: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the engine is gone: `serve` will read it
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
