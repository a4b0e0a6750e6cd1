"""The work of `work.py`. Each effect is a line of a file of the task's own, written before the step takes its time.

`TEST_SERVES` names the queues that this worker serves (all of them when it is not set), `TEST_EFFECTS` the directory.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.handlers.work import IN_A_PROCESS, ON_THE_LOOP, QUEUES, Work
from workers import BlockingJob, Fatal, Job, Result, Retry, handles

SERVED = tuple(os.environ.get("TEST_SERVES", ",".join(QUEUES)).split(","))


def effect(job: Job | BlockingJob, step: int | str) -> None:
    """Write down, in one write, that this happened."""
    what = {"step": step, "attempt": job.attempt, "token": job.token, "pid": os.getpid(), "at": time.time()}
    with (Path(os.environ["TEST_EFFECTS"]) / str(job.task_id)).open("ab", buffering=0) as file:
        file.write(json.dumps(what).encode() + b"\n")


def fail(job: Job | BlockingJob, params: Work, step: int) -> None:
    """Fail before this step, if this attempt is to."""
    if step != params.fails_at or job.attempt > params.failures:
        return
    match params.how:
        case "retry":
            raise Retry(params.retry_after, "come again")
        case "fatal":
            raise Fatal("it is of no use")
        case "exit":
            os._exit(3)
        case _:
            raise RuntimeError(f"attempt {job.attempt} fails")


async def on_the_loop(job: Job, params: Work) -> Result | None:
    """Go through the steps that no earlier attempt has committed."""
    begin = job.checkpoint["step"] if job.checkpoint else 0
    effect(job, "begun")
    for step in range(begin, params.steps):
        fail(job, params, step)
        effect(job, step)
        await job.progress(step / params.steps, f"step {step}")
        await _sleep(params)
        if params.commits:
            await job.commit({"step": step + 1})
    fail(job, params, params.steps)
    if not params.file:
        return None
    path = job.workspace / "result.txt"
    path.write_text(f"made by attempt {job.attempt}")
    return await job.save(path)


async def _sleep(params: Work) -> None:
    until = time.monotonic() + params.seconds
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            if params.grumbles:
                raise RuntimeError("interrupted") from None
            if not params.stubborn:
                raise


def in_a_process(job: BlockingJob, params: Work) -> Result | None:
    """Do the same in a process, which may be killed at any moment."""
    if params.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin = job.checkpoint["step"] if job.checkpoint else 0
    effect(job, "begun")
    for step in range(begin, params.steps):
        fail(job, params, step)
        effect(job, step)
        job.progress(step / params.steps, f"step {step}")
        time.sleep(params.seconds)
        if params.commits:
            job.commit({"step": step + 1})
    fail(job, params, params.steps)
    if not params.file:
        return None
    path = job.workspace / "result.txt"
    path.write_text(f"made by attempt {job.attempt}")
    return job.save(path)


def _async_handler(queue: str) -> Callable[..., object]:
    @handles(ON_THE_LOOP[queue])
    async def work(job: Job, params: Work) -> Result | None:
        return await on_the_loop(job, params)

    return work


def _blocking_handler(queue: str) -> Callable[..., object]:
    @handles(IN_A_PROCESS[queue])
    def work(job: BlockingJob, params: Work) -> Result | None:
        return in_a_process(job, params)

    return work


for _queue in SERVED:
    globals()[f"work_{_queue}"] = _async_handler(_queue)
    globals()[f"hard_work_{_queue}"] = _blocking_handler(_queue)
