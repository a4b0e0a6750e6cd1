"""The handlers of `contracts`. Each line in a diary is one thing that really happened."""

import asyncio
import os
import time
from pathlib import Path

from tests.faults.contracts import BlockingHold, Hold, NarrowHold
from workers import BlockingJob, Job, handles

STEPS = 20
STEP_SECONDS = 0.1


def note(params: Hold, line: str) -> None:
    with Path(params.diary).open("a") as diary:
        diary.write(line + "\n")


@handles(Hold)
async def hold(job: Job, params: Hold) -> None:
    note(params, f"begun {job.attempt}")
    try:
        match params.what:
            case "steps":
                for step in range(job.checkpoint["step"] if job.checkpoint else 0, STEPS):
                    note(params, f"step {step}")
                    await asyncio.sleep(STEP_SECONDS)
                    await job.progress((step + 1) / STEPS, f"step {step + 1}")
                    await job.commit({"step": step + 1})
            case "wait once":
                await job.commit({"attempt": job.attempt, "diary": params.diary})
                await asyncio.sleep(600 if job.attempt == 1 else 0)
            case "fail":
                raise RuntimeError("a word for the owner alone")
            case "kill the engine":
                os._exit(1)
    except asyncio.CancelledError:
        note(params, "cancelled")
        raise
    note(params, "done")


@handles(NarrowHold)
async def narrow_hold(job: Job, params: NarrowHold) -> None:
    await hold(job, params)


@handles(BlockingHold)
def blocking_hold(job: BlockingJob, params: BlockingHold) -> None:
    note(params, f"begun {job.attempt}")
    match params.what:
        case "wait once":
            job.commit({"pid": os.getpid()})
            time.sleep(600 if job.attempt == 1 else 0)
        case "fail":
            raise RuntimeError("a word for the owner alone")
    note(params, "done")
