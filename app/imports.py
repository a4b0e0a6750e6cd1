"""What is left out of a process that does not need it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

COLOUR: Final = ("rich", "pygments")
"""For command lines and tracebacks in colour: 75 modules, 4 MB of each process."""


@contextmanager
def without_colour() -> Iterator[None]:
    """Have whoever is imported inside of the block do without COLOUR, what somebody has loaded before excepted."""
    modules: dict[str, Any] = sys.modules
    left_out = [package for package in COLOUR if package not in modules]
    modules.update(dict.fromkeys(left_out))  # None means to `import`: there is no such module
    try:
        yield
    finally:
        for package in left_out:
            del modules[package]
