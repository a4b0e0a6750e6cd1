"""The contract of `sleep`: takes its time, with a checkpoint at each step. For tests and benchmarks."""

from pydantic import Field

from app.domain.action import Action


class Sleep(Action, name="sleep", queue="bench"):
    """Sleep, in steps of equal length."""

    seconds: float = Field(ge=0, le=86_400, description="In all.")
    steps: int = Field(default=10, ge=1, le=100_000, description="A checkpoint follows each.")
