"""The contract of `noop`: does nothing, so that the way there and back can be measured. For tests and benchmarks."""

from pydantic import Field

from app.domain.action import Action


class Noop(Action, name="noop", queue="bench"):
    """Do nothing."""

    id: int = Field(ge=0)
