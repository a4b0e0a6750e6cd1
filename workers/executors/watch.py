"""Watch: holds one job's processes to their limits, from outside: memory, and time without a sign of life.

The memory is watched, and not limited by the kernel: an address-space limit breaks libraries that reserve much more
than they use (Polars, DuckDB), and a control group takes rights that a worker need not have.

A sign of life is a pulse, or CPU time: a library may keep the interpreter's lock for minutes while it computes, and is
not stalled. Who neither has a pulse nor computes is: a stopped process, or one stuck in a call that keeps the lock.
"""

import time
from dataclasses import dataclass
from typing import Final, Self

from workers.executors.proc import cpu_seconds, family, held_bytes, resident_bytes
from workers.executors.pulse import Pulse

MIB: Final = 1024 * 1024
LOOK_SECONDS: Final = 0.2
"""Between two looks. What is allocated in between may exceed the limit; a process can write about 1 GB in a second."""
LATE_SECONDS: Final = 1.0
"""More than this between two looks was not the job's silence, but ours."""
COMPUTES: Final = 0.02
"""Of one CPU: who uses more than this computes. A thread that waits for the interpreter's lock uses 0.003."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What each job's processes may take."""

    max_rss_mb: int
    """In memory, all of them together."""
    stall_seconds: float
    """How long they may show no sign of life; 0: for ever."""

    def words(self) -> list[str]:
        """Return them as arguments of a command line."""
        return [str(self.max_rss_mb), str(self.stall_seconds)]

    @classmethod
    def of(cls, max_rss_mb: str, stall_seconds: str) -> Self:
        """Read what `words` wrote."""
        return cls(int(max_rss_mb), float(stall_seconds))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a job's processes are to be killed."""

    kind: str
    """The problem's slug."""
    detail: str
    """For the task's owner."""


class Watch:
    """One job's."""

    def __init__(self, pid: int, pulse: Pulse, limits: Limits) -> None:
        self._pid = pid
        self._pulse = pulse
        self._limits = limits
        self._looked_at = time.monotonic()
        self._count = 0
        self._cpu = 0.0
        self._silent = 0.0

    def look(self) -> Verdict | None:
        """Return what is to be done about the job now: nothing, as a rule."""
        return self._memory() or self._life()

    def _memory(self) -> Verdict | None:
        limit = self._limits.max_rss_mb * MIB
        processes = family(self._pid)
        # The cheap sum first. It counts what processes share for each of them, and files that are only mapped.
        if sum(map(resident_bytes, processes)) <= limit:
            return None
        held = sum(map(held_bytes, processes))
        if held <= limit:
            return None
        return Verdict(
            "out-of-memory",
            f"The job took {held // MIB} MiB of memory, and {self._limits.max_rss_mb} MiB are allowed.",
        )

    def _life(self) -> Verdict | None:
        limit, now = self._limits.stall_seconds, time.monotonic()
        # A look that comes late says that we could not run: when the whole machine stood still, so did the job.
        self._silent += min(now - self._looked_at, LATE_SECONDS)
        self._looked_at = now
        count, cpu = self._pulse.count, cpu_seconds(self._pid)
        if count != self._count or cpu - self._cpu > COMPUTES * (self._silent + 1):
            self._count, self._cpu, self._silent = count, cpu, 0.0
        if not limit or self._silent < limit:
            return None
        return Verdict("stalled", f"The job's process showed no sign of life for {limit:g} seconds.")

    def close(self) -> None:
        """The job has ended."""
        self._pulse.close()
