"""Workspaces: the directories in which attempts keep their files, below one of the engine's own.

An attempt's is removed with it, the engine's when it stops. What an engine left that was killed is removed by the next
one that starts: who lives holds a lock on its directory, which no death leaves behind, and which tells more than a pid:
another container's engine may share the directory, and not the numbers. systemd-tmpfiles respects the lock, too.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.observability.logging import get_log

PREFIX: Final = "longhaul-worker-"

log = get_log("engine")


@contextlib.contextmanager
def open_workspaces(parent: Path | None = None) -> Iterator[Path]:
    """Make this engine's directory, and remove those of engines that are dead.

    Args:
        parent: Where; the system's directory for temporary files when omitted.
    """
    parent = parent or Path(tempfile.gettempdir())
    for found in parent.glob(f"{PREFIX}*"):
        _remove_leftover(found)
    unlocked = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
    with _locked(unlocked):
        directory = unlocked.rename(parent / unlocked.name[1:])  # seen by others only now
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


class Workspace:
    """One attempt's directory: a path (os.PathLike), made when it is first asked for. Most small jobs never do."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._path: str | None = None

    def __fspath__(self) -> str:
        """Make it, if it is not there, and return its path."""
        if self._path is None:
            self._path = tempfile.mkdtemp(dir=self._parent)
        return self._path

    def remove(self) -> None:
        """Remove it, if it was made."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Workspace]:
    """Give one attempt a directory of its own in the engine's, and remove it."""
    made = Workspace(directory)
    try:
        yield made
    finally:
        made.remove()


def _remove_leftover(directory: Path) -> None:
    try:
        if directory.lstat().st_uid != os.getuid():
            return
        with _locked(directory):
            shutil.rmtree(directory, ignore_errors=True)
            log.info("removed the files of an engine that is dead", directory=directory.name)
    except OSError:  # its engine lives; or another one was quicker to remove it; or it is no directory
        return


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
