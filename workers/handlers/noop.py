"""The work of `noop`: none."""

from app.actions.noop import Noop
from workers import Job, handles


@handles(Noop)
async def noop(job: Job, params: Noop) -> None:  # every handler is given both
    """Do nothing."""
