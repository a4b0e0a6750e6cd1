"""An action whose work is to write a line into its log."""

from app.domain.action import Action
from workers import Job, handles


class Talk(Action, name="talk", queue="bench"):
    """Say a word."""


@handles(Talk)
async def talk(job: Job, params: Talk) -> None:
    await job.log("a word")
