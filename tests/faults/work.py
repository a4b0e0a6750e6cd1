"""The handlers of `contracts`. Each line in a diary is one thing that really happened."""

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.faults.contracts import BlockingHold, Hold, NarrowHold
from workers import BlockingJob, Job, handles

STEPS = 20
STEP_SECONDS = 0.1
GROWTH_MB = 400

kept: list[bytes] = []


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
            case "grow":
                kept.append(b"x" * (GROWTH_MB << 20))
                while not Path(params.diary + ".enough").exists():
                    await asyncio.sleep(0.05)
            case "block":
                time.sleep(2)  # as no handler should
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
        case "grow":
            kept.append(b"x" * (GROWTH_MB << 20))
            time.sleep(600)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
    note(params, "done")
