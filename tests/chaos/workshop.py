"""The work of `orders`, and the sink that its effects go to: one that compares fencing tokens, as a good one does.

What happens is written down at once, in one write, in the journal that all handlers share, in `CHAOS_DIRECTORY`.
"""

import asyncio
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.orders import Hard, Order, Soft
from workers import BlockingJob, Fatal, Job, Result, Retry, handles

DIRECTORY = Path(os.environ["CHAOS_DIRECTORY"])
HUNGRY = DIRECTORY / "hungry"
"""A file in here makes the next blocking job that takes a step run out of memory."""
MIB = 1024 * 1024
MOST_MIB = 2048


def note(job: Job | BlockingJob, params: Order, what: str, **facts: Any) -> None:
    """Write down that this happened."""
    line = {
        "what": what,
        "task_id": str(job.task_id),
        "mark": params.mark,
        "attempt": job.attempt,
        "token": job.token,
        "at": time.time(),
        **facts,
    }
    file = os.open(DIRECTORY / "handlers.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line, separators=(",", ":")).encode() + b"\n")
    finally:
        os.close(file)


def effect(job: Job | BlockingJob, params: Order, step: int) -> None:
    """Have the step's effect on the sink, which refuses those who come with an older token than it has seen."""
    with (DIRECTORY / "sink" / str(job.task_id)).open("a+") as seen:
        fcntl.flock(seen, fcntl.LOCK_EX)
        seen.seek(0)
        newest = int(seen.read() or 0)
        accepted = job.token >= newest
        if job.token > newest:
            seen.truncate(0)
            seen.write(str(job.token))
            seen.flush()
        note(job, params, "step", step=step, accepted=accepted)


def fail(job: Job | BlockingJob, params: Order, step: int) -> None:
    """Fail before this step, if this attempt is to."""
    if params.how == "well" or step != params.fails_at or job.attempt > params.failures:
        return
    note(job, params, "fail", how=params.how)
    match params.how:
        case "retry":
            raise Retry(0.5, "come again")
        case "fatal":
            raise Fatal("it is of no use")
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            raise RuntimeError(f"attempt {job.attempt} fails")


def resumed(job: Job | BlockingJob) -> int:
    """The first step that no earlier attempt has committed."""
    return int(job.checkpoint["step"]) if job.checkpoint else 0


def result_file(job: Job | BlockingJob, params: Order) -> Path:
    """Write the result."""
    path = job.workspace / "result.txt"
    path.write_text(f"{params.mark} {job.token}")
    return path


@handles(Soft)
async def soft(job: Job, params: Soft) -> Result | None:
    """Go through the steps."""
    begin = resumed(job)
    note(job, params, "begin", step=begin, engine=os.getpid(), process=os.getpid())
    try:
        for step in range(begin, params.steps):
            fail(job, params, step)
            effect(job, params, step)
            await job.progress(step / params.steps, f"step {step}")
            await asyncio.sleep(params.seconds)
            if params.commits:
                began = time.time()
                await job.commit({"step": step + 1})
                note(job, params, "commit", step=step + 1, began=began)
        fail(job, params, params.steps)
        result = await job.save(result_file(job, params)) if params.file else None
    except asyncio.CancelledError:
        note(job, params, "stopped")
        raise
    note(job, params, "end")
    return result


@handles(Hard)
def hard(job: BlockingJob, params: Hard) -> Result | None:
    """Do the same in a process, which may be killed at any moment."""
    begin = resumed(job)
    engine = psutil.Process(os.getppid()).ppid()  # the fork server's parent
    note(job, params, "begin", step=begin, engine=engine, process=os.getpid())
    for step in range(begin, params.steps):
        fail(job, params, step)
        starve(job, params)
        effect(job, params, step)
        job.progress(step / params.steps, f"step {step}")
        time.sleep(params.seconds)
        if params.commits:
            began = time.time()
            job.commit({"step": step + 1})
            note(job, params, "commit", step=step + 1, began=began)
    fail(job, params, params.steps)
    result = job.save(result_file(job, params)) if params.file else None
    note(job, params, "end")
    return result


def starve(job: BlockingJob, params: Order) -> None:
    """Run out of memory, if it is this job's turn: grow until the guard kills it, or die as the kernel kills."""
    for turn in HUNGRY.iterdir():
        try:
            turn.unlink()
        except FileNotFoundError:
            continue  # another job's turn
        note(job, params, "starve")
        eaten: list[bytes] = []
        while len(eaten) < MOST_MIB // 16:
            eaten.append(b"\1" * (16 * MIB))  # not zeros: these would not be resident
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
