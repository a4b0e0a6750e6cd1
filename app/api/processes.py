"""Processes: the API on several cores. Each process has an event loop of its own, and all accept from one socket.

They share nothing else: what one knows of a task it has from Redis, RabbitMQ and SQL, like processes on different
machines. One that is killed is replaced; one that gives up by itself ends all, as it would alone.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Final, NoReturn

from app.observability.logging import get_log
from app.prctl import end_with_parent

SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
RESTART_SECONDS: Final = 0.5
"""Between a process and its replacement, or one that dies at once would keep a core busy."""

log = get_log("api")


class Processes:
    """Starts processes, replaces those that are killed, and ends them all."""

    def __init__(self, serve: Callable[[socket.socket], int], listening: socket.socket) -> None:
        """Take the work.

        Args:
            serve: What a process does until SIGTERM: accept from the socket; it returns its exit status.
            listening: The socket, bound.
        """
        self._serve = serve
        self._listening = listening
        self._children: set[int] = set()
        self._stopping = False
        self._status = 0

    def run(self, count: int) -> int:
        """Keep so many processes until SIGTERM or SIGINT; return the exit status."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for _ in range(count):
            self._fork(before)
        while self._children:
            if signal.sigwait(SIGNALS) != signal.SIGCHLD:
                self._stop()
            for _ in range(self._reap()):
                time.sleep(RESTART_SECONDS)
                self._fork(before)
        return self._status

    def _stop(self) -> None:
        self._stopping = True
        for pid in self._children:
            os.kill(pid, signal.SIGTERM)  # it is not reaped, so its pid is its own

    def _reap(self) -> int:
        """Return how many are to be replaced of those that have ended."""
        killed = 0
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            self._children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                continue
            if code < 0:
                log.error("an API process was killed; another one is started", pid=pid, signal=-code)
                killed += 1
            else:
                log.error("an API process has given up; ending all", pid=pid, status=code)
                self._status = code
                self._stop()
        return 0 if self._stopping else killed

    def _fork(self, signals: set[int | signal.Signals]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._children.add(pid)
        else:
            self._become_child(parent, signals)

    def _become_child(self, parent: int, signals: set[int | signal.Signals]) -> NoReturn:
        status = 1
        try:
            end_with_parent(parent, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            status = self._serve(self._listening)
        except Exception:
            log.exception("an API process failed")
        finally:
            os._exit(status)  # and nothing before it that may fail: this child would go on as its parent
