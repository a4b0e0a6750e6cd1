"""What is ordered of the stage: work whose every step is written down, and which fails in the ways that work fails in.

`soft` runs on the engine's loop, `hard` in a process of its own. `workshop` does it.
"""

from typing import Literal

from pydantic import Field

from app.domain.action import Action


class Order(Action):
    """Steps, each with an effect on a sink that compares tokens, and a checkpoint after it."""

    mark: str = Field(description="Which submission this is.")
    steps: int = Field(default=1, ge=0)
    seconds: float = Field(default=0, ge=0, description="Of one step.")
    commits: bool = True
    file: bool = Field(default=False, description="Whether it makes a result file.")
    how: Literal["well", "error", "retry", "fatal", "exit", "kill"] = "well"
    fails_at: int = Field(default=0, ge=0, description="Before which step an attempt fails.")
    failures: int = Field(default=0, ge=0, description="How many attempts fail: those up to this number.")


class Soft(Order, name="soft", queue="soft"):
    """On the loop."""


class Hard(Order, name="hard", queue="hard"):
    """In a process."""
