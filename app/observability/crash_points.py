"""Crash points: named places at which a test lets the process die, as a SIGKILL there would.

`CRASH=after_confirm` in the environment of a process in development mode ends it the first time it comes by. In
production the name is never looked at. docs/protocol.md says for each point what the user sees and who recovers.
"""

import os

_armed = ""


def arm_crash_point(*, development: bool) -> None:
    """Take the point's name from the environment, in development mode only."""
    global _armed  # noqa: PLW0603  # a process dies at one point at most
    _armed = os.environ.get("CRASH", "") if development else ""


def crash_point(name: str) -> None:
    """Die here, without a trace, if this point is armed."""
    if name == _armed:
        os._exit(137)
