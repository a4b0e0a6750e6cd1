"""The lines that a person reads, and how they reach `make up` from a supervisor that lives on."""

import os
import sys

from stack.description import Description


def say(line: str) -> None:
    """Print a line at once, to a pipe too."""
    try:
        print(line, flush=True)
    except BrokenPipeError:  # whoever read is gone; the stack goes on
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def addresses(described: Description) -> list[str]:
    """Return the lines that say where to look."""
    base = described.nginx_url
    return [
        f"  the service    {base}  (the API behind it: {described.base_url})",
        f"  dashboard      {base}/dashboard",
        f"  documentation  {base}/docs",
        f"  health         {base}/readyz",
    ]
