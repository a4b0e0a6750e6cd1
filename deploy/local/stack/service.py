"""What the supervisor knows of each thing that runs: how to start it, to ask it, and to end it."""

import time
from abc import ABC, abstractmethod
from threading import Event
from typing import ClassVar

from stack.errors import StackError, Stopped
from stack.ports import is_free
from stack.processes import Process


class Service(ABC):
    """Something that runs as one process (and what that starts). All calls block; none is for two threads at once."""

    name: ClassVar[str]
    boot_seconds: ClassVar[float]  # how long a start may take on a slow machine
    stop_seconds: ClassVar[float]  # how long a graceful stop may take

    def __init__(self) -> None:
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The process that does the work. StackError before the first start."""
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives, be it ready or not."""
        return self._process is not None and self._process.is_running

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask it once, as a client would."""

    @property
    @abstractmethod
    def where_to_look(self) -> str:
        """Where the reason stands when it does not start."""

    def ports(self) -> tuple[int, ...]:
        """Return every port that must be free before a start."""
        return ()

    def start(self) -> None:
        """Start it on the data that are there, and return when it truly answers.

        Raises:
            StackError: A port is taken, the program is missing, or it does not answer in time. It does not run then.
        """
        self.launch()
        try:
            self.wait_until_ready()
        except BaseException:  # Ctrl-C too: nothing is left behind
            self.stop()
            raise

    def launch(self) -> None:
        """Start the process and return at once; nothing happens when it runs. Raises StackError as `start` does."""
        if self.is_running:
            return
        if self._process is not None:
            self._process.kill()  # what it has left behind, such as nginx's workers, holds its ports
        for port in self.ports():
            if not is_free(port):
                raise StackError(f"port {port} is in use; {self.name} needs it")
        self._process = self._spawn()

    def wait_until_ready(self, stopping: Event | None = None) -> None:
        """Return when it answers.

        Raises:
            StackError: It exits, or does not answer within `boot_seconds`.
            Stopped: `stopping` was set meanwhile.
        """
        deadline = time.monotonic() + self.boot_seconds
        while not self.is_ready():
            if stopping is not None and stopping.is_set():
                raise Stopped
            if not self.is_running:
                raise StackError(f"{self.name} ended while it was starting; see {self.where_to_look}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} is not ready after {self.boot_seconds:.0f} s; see {self.where_to_look}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it gracefully, by force after `stop_seconds`; returns when it is gone. May be called again."""
        if self._process is not None:
            self._process.end(patience=self.stop_seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when it is gone. `start()` brings it back on its data."""
        if self._process is not None:
            self._process.kill()

    @abstractmethod
    def _spawn(self) -> Process:
        """Write the configuration and start the process."""
