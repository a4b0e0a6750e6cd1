"""The fork server: a small process that forks one child for each `def` job, and sees to it that none is left behind.

Forking here is cheap, and safe: this process has imported what jobs share, and has no thread, no loop and no
connection. One crash takes one job with it. Every child leads a session of its own, dies with this process
(PR_SET_PDEATHSIG), and whatever it started is killed when it ends: orphans go to the nearest ancestor that is their
subreaper (PR_SET_CHILD_SUBREAPER), which is their job while it lives and this process afterwards, so that even one that
left its session is found, and is never taken for another job's. When the engine ends, even by SIGKILL, its end of the
control socket closes, and everything here is killed.

It also holds jobs to their limits (`watch.py`): here, and not in the engine, whose loop a handler may block.

    engine → server   {"job": n, "title": t} and the child's socket; {"term": n}; {"kill": n}; {"ask": n}
    server → engine   {"job": n, "pid": p} when it has started; {"job": n, "status": s} when it has ended and all that
                      it had started is gone, with "kind" and "detail" if it is known why it was killed;
                      {"job": n, "refused": why} when it could not be started; {"answer": n} to "ask"
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from setproctitle import setproctitle

from app.prctl import PR_SET_CHILD_SUBREAPER, end_with_parent, prctl
from workers.executors.child import run_job
from workers.executors.proc import oom_kills
from workers.executors.pulse import Pulse
from workers.executors.watch import LOOK_SECONDS, Limits, Verdict, Watch
from workers.registry import Registry

MAX_MESSAGE_BYTES: Final = 4096
LOOKING: Final = 0.05
"""Of one CPU, what looking at jobs may take: where a look is long, it is rarer."""
FIRST_TO_BE_KILLED: Final = "500"
"""A job's `oom_score_adj`: should the machine's memory be short, the kernel prefers it to engines and servers."""


@dataclass(slots=True)
class _Job:
    number: int
    watch: Watch
    verdict: Verdict | None = None
    """Why it was killed, once it was."""


class ForkServer:
    """Forks, kills and reaps, as the engine asks."""

    def __init__(self, control: socket.socket, registry: Registry, limits: Limits) -> None:
        self._control = control
        self._registry = registry
        self._limits = limits
        self._jobs: dict[int, _Job] = {}
        """By pid."""
        self._next_look = 0.0
        self._oom_kills = oom_kills()
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
                readable, _, _ = select.select([control, wakeup], [], [], self._until_next_look())
                if wakeup in readable:
                    os.read(wakeup, 512)
                    self._reap()
                if control in readable:
                    words, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 1)
                    if not words:
                        break
                    self._obey(json.loads(words), fds)
                if self._until_next_look() == 0:
                    self._look()
        finally:
            for pid in self._jobs:
                _kill_group(pid)
            for pid in self._jobs:
                os.waitpid(pid, 0)  # only now are its orphans ours
            self._jobs.clear()
            self._kill_strays()

    def _until_next_look(self) -> float | None:
        return max(0.0, self._next_look - time.monotonic()) if self._jobs else None

    def _look(self) -> None:
        """Kill the jobs that have overstepped their limits; their ends are told as any other's."""
        began = time.monotonic()
        for pid, job in self._jobs.items():
            if job.verdict is None and (verdict := job.watch.look()) is not None:
                job.verdict = verdict
                _kill_group(pid)
        took = time.monotonic() - began
        self._next_look = began + max(LOOK_SECONDS, took / LOOKING)

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        if "ask" in message:
            self._tell(answer=message["ask"])
        elif "kill" in message:
            for pid, job in self._jobs.items():
                if job.number == message["kill"]:
                    _kill_group(pid)
        elif "term" in message:
            for pid, job in self._jobs.items():
                if job.number == message["term"]:
                    os.kill(pid, signal.SIGTERM)  # it is not reaped, so its pid is its own
        else:
            self._fork(message["job"], message["title"], fds[0])

    def _fork(self, number: int, title: str, fd: int) -> None:
        if not self._jobs:
            self._oom_kills = oom_kills()  # those until now were others'
        pulse = Pulse()
        with socket.socket(fileno=fd) as connection:
            connection.set_inheritable(False)  # what has come over a socket is inheritable
            try:
                pid = os.fork()
            except OSError as error:  # no memory, or too many processes
                pulse.close()
                self._tell(job=number, refused=error.strerror)
                return
            if pid == 0:
                self._become_child(connection, title, pulse)
        self._jobs[pid] = _Job(number, Watch(pid, pulse, self._limits))
        self._tell(job=number, pid=pid)

    def _become_child(self, connection: socket.socket, title: str, pulse: Pulse) -> NoReturn:
        status = 1
        try:
            parent = os.getppid()
            os.setsid()
            end_with_parent(parent, signal.SIGKILL)
            prctl(PR_SET_CHILD_SUBREAPER, 1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._control.close()
            for end in self._wakeup:
                os.close(end)
            setproctitle(title)
            with contextlib.suppress(OSError):  # a container may forbid it
                Path("/proc/self/oom_score_adj").write_text(FIRST_TO_BE_KILLED)
            pulse.start()
            run_job(connection, self._registry)
            status = 0
        finally:
            with contextlib.suppress(Exception):  # the handler may have closed them
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Note which children have ended, kill what they left behind, and tell the engine."""
        ended: list[tuple[_Job, int]] = []
        for pid in list(self._jobs):
            # WNOWAIT: until it is reaped its pid, which is its group's id, cannot become another's.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            ended.append((self._jobs.pop(pid), os.waitstatus_to_exitcode(status)))
        self._kill_strays()
        for job, status in ended:
            job.watch.close()
            verdict = self._verdict(job, status)
            why = {"kind": verdict.kind, "detail": verdict.detail} if verdict else {}
            self._tell(job=job.number, status=status, **why)

    def _verdict(self, job: _Job, status: int) -> Verdict | None:
        """Return why a job was killed, if it is known: by us, or by the kernel for want of memory."""
        if job.verdict is not None or status != -signal.SIGKILL:
            return job.verdict
        before, self._oom_kills = self._oom_kills, oom_kills()
        if before is None or self._oom_kills is None or self._oom_kills <= before:
            return None
        return Verdict("out-of-memory", "The memory was used up, and the kernel killed the job's process.")

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


def main() -> None:
    """Serve on the socket of that number, with these limits, for the handler modules: the arguments, in this order."""
    control = socket.socket(fileno=int(sys.argv[1]))
    setproctitle("longhaul: fork server")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    ForkServer(control, Registry(sys.argv[4:]), Limits.of(*sys.argv[2:4])).serve()


if __name__ == "__main__":
    main()
