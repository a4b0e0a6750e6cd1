"""Nonces: names for calls, each used once. A random one for each call would be a system call for each.

What is sent twice has the same nonce, and so a script knows a repetition from a second call.
"""

from itertools import count
from secrets import token_hex


class Nonces:
    """Gives out nonces: the process's own random number, and a count."""

    def __init__(self) -> None:
        self._own = token_hex(12)
        self._count = count()

    def next(self) -> str:
        """Return one that nobody has had."""
        return f"{self._own}-{next(self._count)}"
