"""What the client hands out beside the status document."""

from pydantic import BaseModel, ConfigDict, Field

from app.domain.task import StatusDocument


class AcceptedTask(StatusDocument):
    """The answer to a submission: the status document, and the key to this one task."""

    task_token: str = Field(repr=False, description="A JWT that opens just this task. A secret.")
    replayed: bool = Field(default=False, exclude=True, description="The Idempotency-Key was known: no new task.")


class Page(BaseModel):
    """One page of a list."""

    model_config = ConfigDict(frozen=True)

    items: list[StatusDocument]
    next_cursor: str | None = Field(default=None, description="Opaque; None at the end.")
