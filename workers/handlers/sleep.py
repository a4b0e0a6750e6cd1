"""The work of `sleep`: time, in equal steps."""

import asyncio

from app.actions.sleep import Sleep
from workers import Job, handles


@handles(Sleep)
async def sleep(job: Job, params: Sleep) -> None:
    """Sleep through the steps that no earlier attempt has slept through; a checkpoint follows each."""
    done = job.checkpoint["step"] if job.checkpoint else 0
    for step in range(done, params.steps):
        await job.progress(step / params.steps, f"step {step + 1} of {params.steps}")
        await asyncio.sleep(params.seconds / params.steps)
        await job.commit({"step": step + 1})
