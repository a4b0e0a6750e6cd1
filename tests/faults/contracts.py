"""Actions of the fault tests: jobs that wait, fail, or take their worker with them, and keep a diary of it."""

from typing import Literal

from app.domain.action import Action


class Hold(Action, name="hold", queue="slow"):
    """What the handler is to do; it runs on the engine's loop."""

    what: Literal["steps", "wait once", "fail", "kill the engine", "nothing", "grow", "stop", "block"]
    diary: str


class NarrowHold(Hold, name="narrow_hold", queue="narrow"):
    """The same in a queue whose worker has one slot and holds four deliveries."""


class BlockingHold(Hold, name="blocking_hold", queue="slow_blocking"):
    """The same in a process of its own."""


class Unknown(Action, name="unknown", queue="slow"):
    """An action for which one of the workers has no handler."""
