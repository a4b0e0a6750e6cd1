"""The garbage collector of a process that serves."""

import gc
from typing import Final

NEW_OBJECTS: Final = 20_000
"""Containers made and not freed again, after which the collector looks through the young ones."""
LOOKS: Final = (5, 2)
"""After how many looks at a generation the next older one has its turn: closed WebSockets are cycles, and lie there."""


def spare_the_collector() -> None:
    """Leave alone what is there by now, which stays as long as the process, and look for cycles less often.

    By default the collector looks after each 700 new objects, and hundreds of tasks under way have more than that: it
    took a sixth of a busy worker's time, and freed next to nothing, since what a task leaves behind is seldom a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *LOOKS)
