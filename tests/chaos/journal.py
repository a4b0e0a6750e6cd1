"""Journal: what was done and seen, one JSON object a line. The checker sees nothing else."""

import json
import time
from pathlib import Path
from typing import Any


class Journal:
    """One file, appended to."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, **facts: Any) -> None:
        """Add a line."""
        self._file.write(json.dumps(facts, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """End it."""
        self._file.close()


def now() -> float:
    """Seconds since the epoch: the one clock of all journals, which several processes write."""
    return time.time()
