"""How a handler ends: it returns a Result, or nothing, or it raises."""

from dataclasses import dataclass

from app.domain.task import ResultFile


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler made; `Job.save` returns it, and the handler returns it in turn."""

    file: ResultFile | None = None
