"""The contract of the tests' own work: a queue of its own for each story, so that a test says which worker has which.

`TEST_QUEUES` in the environment names the queues, parted by commas. In each there are two actions: the queue's own name
(`async def`, on the loop) and `hard_<queue>` (`def`, in a process of its own).
"""

import os
import types
from typing import Literal

from pydantic import Field

from app.domain.action import Action

QUEUES = tuple(filter(None, os.environ.get("TEST_QUEUES", "work").split(",")))


class Work(Action):
    """Steps, each with an effect that a test can count, and a checkpoint after it."""

    steps: int = Field(default=1, ge=0)
    seconds: float = Field(default=0, ge=0, description="Of one step.")
    commits: bool = True
    file: bool = Field(default=False, description="Whether it makes a result file.")
    fails_at: int = Field(default=0, ge=0, description="Before which step an attempt fails.")
    failures: int = Field(default=0, ge=0, description="How many attempts fail: those up to this number.")
    how: Literal["error", "retry", "fatal", "exit"] = "error"
    retry_after: float = 0
    grumbles: bool = Field(default=False, description="Whether it raises an error of its own when it is cancelled.")
    stubborn: bool = Field(default=False, description="Whether it ignores being asked to stop.")


def _in(queue: str, prefix: str = "") -> type[Work]:
    return types.new_class(
        f"{prefix}{queue}".title().replace("_", ""),
        (Work,),
        {"name": f"{prefix}{queue}", "queue": queue},
        lambda body: body.update(__module__=__name__, __doc__="Count effects."),
    )


ON_THE_LOOP: dict[str, type[Work]] = {queue: _in(queue) for queue in QUEUES}
IN_A_PROCESS: dict[str, type[Work]] = {queue: _in(queue, "hard_") for queue in QUEUES}

globals().update({action.__name__: action for action in [*ON_THE_LOOP.values(), *IN_A_PROCESS.values()]})
