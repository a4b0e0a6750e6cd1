"""The contracts of the benchmarks' jobs, all in one queue."""

from pydantic import Field

from app.domain.action import Action


class BenchNoop(Action, name="bench_noop", queue="bench"):
    """Do nothing."""

    id: int = Field(ge=0)
    padding: str = Field(default="", max_length=4096, description="Makes the payload as large as is wanted.")


class BenchProgress(Action, name="bench_progress", queue="bench"):
    """Report progress ten times."""

    id: int = Field(ge=0)


class BenchSleep(Action, name="bench_sleep", queue="bench"):
    """Sleep, and count that in Redis: who began, and who has ended."""

    id: int = Field(ge=0)
    milliseconds: int = Field(default=200, ge=0, le=600_000)
