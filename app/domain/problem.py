"""The RFC 9457 problem object: the shape of every error answer, and of a task's `error`."""

from pydantic import BaseModel, ConfigDict, Field


class FieldError(BaseModel):
    """One field of a body (`pointer`) or one query parameter (`parameter`) that is at fault."""

    model_config = ConfigDict(frozen=True)

    pointer: str | None = Field(default=None, description="A JSON Pointer (RFC 6901) as a URI fragment.")
    parameter: str | None = Field(default=None, description="The name of a query parameter.")
    detail: str


class Problem(BaseModel):
    """An RFC 9457 problem. A task's `error` has neither `status` nor `instance`."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="A relative reference to a page on it.", examples=["/problems/not-found"])
    title: str
    status: int | None = None
    detail: str | None = None
    instance: str | None = None
    request_id: str | None = None
    errors: list[FieldError] | None = None
    retry_after: int | None = Field(default=None, ge=1, description="Seconds; on 429 and 503.")


def problem_type(slug: str) -> str:
    """Return the `type` member for a slug: a relative reference to its page."""
    return f"/problems/{slug}"
