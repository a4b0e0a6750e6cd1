"""Which processes a stack has, for whoever must end them when their supervisor is gone: `processes.json`.

And the lock that tells whether somebody supervises: held as long as the supervisor lives, and gone with it however it
ends, so that no pid has to be believed.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from stack.errors import StackError
from stack.files import write_private
from stack.processes import Identity

SERVERS = ("rabbitmq", "epmd", "redis")  # ended last: a stopping worker still needs them


class Records:
    """The processes of the last supervisor."""

    def __init__(self, run_directory: Path) -> None:
        """Name the stack."""
        self._directory = str(run_directory)
        self._file = run_directory / "processes.json"

    def write(self, pids: Mapping[str, int]) -> None:
        """Record the processes that live, by a name each."""
        living = {name: asdict(identity) for name, pid in pids.items() if (identity := Identity.of(pid))}
        write_private(self._file, json.dumps({"run_directory": self._directory, "processes": living}))

    def read(self) -> dict[str, Identity]:
        """Return what was recorded; nothing when the file came along with a copy of another stack's directory."""
        try:
            recorded = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        if recorded["run_directory"] != self._directory:
            return {}
        return {name: Identity(**fields) for name, fields in recorded["processes"].items()}

    def end_leftovers(self, *, patience: float = 30) -> list[str]:
        """End what was recorded and still lives, in whole or in part; servers last. Return the names."""
        recorded = self.read()
        in_order = sorted(recorded, key=lambda name: SERVERS.index(name) if name in SERVERS else -1)
        ended = [name for name in in_order if recorded[name].end(patience=patience)]
        self._file.unlink(missing_ok=True)
        return ended


class SupervisorLock:
    """Held by the one supervisor of a run directory; who that is stands in the file."""

    def __init__(self, run_directory: Path, *, descriptor: int | None = None) -> None:
        """Name the lock.

        Args:
            run_directory: Of the stack.
            descriptor: The open file of a process that holds the lock and hands it on (`flock` belongs to the file).
        """
        self._file = run_directory / "supervisor.lock"
        self.descriptor = descriptor

    def take(self) -> bool:
        """Take it; False when another process holds it."""
        if self.descriptor is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.parent.chmod(0o700)
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            os.ftruncate(descriptor, 0)  # whoever held it before is not meant
            self.descriptor = descriptor
        return True

    def sign(self) -> None:
        """Write who we are into it, for `make down`. It must be held."""
        assert self.descriptor is not None
        us = Identity.of(os.getpid())
        assert us is not None
        os.pwrite(self.descriptor, json.dumps(asdict(us)).encode(), 0)

    def holder(self) -> Identity | None:
        """Return the process that holds it; None when nobody does."""
        probe = SupervisorLock(self._file.parent)
        for _ in range(600):  # half a minute: it is signed once Python has started, on a busy machine too
            if probe.take():
                probe.release()
                return None
            with contextlib.suppress(ValueError):  # it was taken, and is about to be signed
                holder = Identity(**json.loads(self._file.read_text()))
                if holder.is_alive:
                    return holder
            time.sleep(0.05)
        raise StackError(f"{self._file} is held by a process that does not say who it is")

    def release(self) -> None:
        """Let it go, or only our copy of it when it was handed on. May be called again."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
