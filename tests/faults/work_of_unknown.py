"""The handler that only one of the workers has."""

from tests.faults.contracts import Unknown
from workers import Job, handles


@handles(Unknown)
async def unknown(job: Job, params: Unknown) -> None:
    """Do nothing."""
