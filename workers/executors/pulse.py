"""Pulse: a job's process shows that it runs, by a page of memory that it shares with the fork server.

A thread of the job's counts there, twice a second. What the count proves: that the process is scheduled, and that its
interpreter can be had, so that it is neither stopped nor stuck in a call that never lets go of the interpreter's lock.
What it does not prove: that the handler gets on. One that waits for a lock that nobody releases has a pulse; against
that there is `timeout_seconds`. No word over the pipe is needed, so a pulse wakes nobody, and waits for nobody.
"""

import mmap
import signal
import struct
import threading
import time
from typing import Final

BEAT_SECONDS: Final = 0.5
_COUNT: Final = struct.Struct("=Q")


class Pulse:
    """Made before the fork; beaten in the child, read in the parent."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    @property
    def count(self) -> int:
        """How often it has beaten."""
        (count,) = _COUNT.unpack_from(self._page)
        return int(count)

    def start(self) -> None:
        """Beat from now on, in a thread of its own."""
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def _beat(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the handler's, and wake it
        while True:
            _COUNT.pack_into(self._page, 0, self.count + 1)
            time.sleep(BEAT_SECONDS)

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
