"""The work of the benchmarks' jobs. REDIS_URL names the Redis in which `bench_sleep` counts."""

import asyncio
import os
from functools import cache
from typing import Final

from redis.asyncio import Redis

from benchmarks.work.actions import BenchNoop, BenchProgress, BenchSleep
from workers import Job, handles

UPDATES: Final = 10


@handles(BenchNoop)
async def noop(job: Job, params: BenchNoop) -> None:  # every handler is given both
    """Do nothing."""


@handles(BenchProgress)
async def progress(job: Job, params: BenchProgress) -> None:  # noqa: ARG001  # given to each
    """Report each tenth."""
    for update in range(1, UPDATES + 1):
        await job.progress(update / UPDATES, f"step {update}")


@handles(BenchSleep)
async def sleep(job: Job, params: BenchSleep) -> None:  # noqa: ARG001
    """Sleep for as long as the order says."""
    counts = _counts()
    if counts is not None:
        await counts.hincrby("bench:runs", str(params.id), 1)
    await asyncio.sleep(params.milliseconds / 1000)
    if counts is not None:
        await counts.hincrby("bench:ends", str(params.id), 1)


@cache
def _counts() -> Redis | None:
    url = os.environ.get("REDIS_URL")
    return Redis.from_url(url) if url else None
