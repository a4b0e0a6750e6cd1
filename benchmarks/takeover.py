"""How soon a killed worker's jobs run again, and whether a long job gets through a SIGKILL each half-minute.

    python benchmarks/takeover.py [--lease 15] [--every 30] [--job 600] [--kills 0]

Starts a Redis, a RabbitMQ, an API and three workers of its own on loopback. One long job (`--job` seconds, with a
checkpoint each second) and thirty others are always at work. Every `--every` seconds the worker that has the long job
is killed, and started again at once, as a supervisor does; what counts is the time from the kill until a next attempt
of each job that it had has begun. It ends with the long job, or after `--kills` kills. The aim is the lease and five
seconds at the 99th percentile, and a long job that ends as COMPLETED; exit status 1 when either is missed.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import servers
from tests.support.service import Service, running_service

GRACE: Final = 5.0
WORKERS: Final = 3
OTHERS: Final = 30
LOOK: Final = 0.1
"""Seconds between two looks at a task: a figure is too large by so much at most."""
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


@contextlib.asynccontextmanager
async def started(lease: int) -> AsyncIterator[Service]:
    """A service with this lease."""
    queues = {"bench": {"prefetch": OTHERS, "concurrency": OTHERS}}
    with servers() as (directory, redis, rabbit):
        async with running_service(
            redis, rabbit, directory / "service", workers=WORKERS, lease_seconds=lease, queues=queues,
            actions=["app.actions.sleep"], handlers=["workers.handlers.sleep"],
        ) as service:  # fmt: skip
            yield service


async def submit(client: httpx.AsyncClient, seconds: float) -> str:
    """Order a job with a checkpoint each second; return its id."""
    order = {"action": "sleep", "seconds": seconds, "steps": max(1, int(seconds))}
    answer = await client.post("/v1/workload", json=order)
    answer.raise_for_status()
    return str(answer.json()["task_id"])


async def document(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """Return a task's document."""
    shown: dict[str, Any] = (await client.get(f"/v1/workload/status/{task_id}")).raise_for_status().json()
    return shown


async def keep_busy(client: httpx.AsyncClient, seconds: float) -> None:
    """Order the next job whenever one has ended."""
    while True:
        task_id = await submit(client, seconds)
        while (await document(client, task_id))["status"] not in ENDED:  # noqa: ASYNC110
            await asyncio.sleep(1)


async def holder_of(admin: httpx.AsyncClient, task_id: str) -> dict[str, Any] | None:
    """Return the worker that is at a task, as it has said of itself."""
    workers = (await admin.get("/v1/admin/workers")).raise_for_status().json()["items"]
    return next((one for one in workers if any(task["task_id"] == task_id for task in one["tasks"])), None)


async def taken_over(client: httpx.AsyncClient, task: dict[str, Any], killed_at: float) -> float | None:
    """Return after how many seconds another attempt of a task has begun; None if it had ended before the kill."""
    while (shown := await document(client, task["task_id"]))["attempt"] <= task["attempt"]:
        if shown["status"] in ENDED:
            return None
        await asyncio.sleep(LOOK)
    return time.perf_counter() - killed_at


async def killed_again_and_again(
    service: Service, client: httpx.AsyncClient, admin: httpx.AsyncClient, long_job: str, every: float, kills: int
) -> list[float]:
    """Kill the long job's worker until that has ended; how soon each of the killed workers' jobs was taken over."""
    took: list[float] = []
    count = 0
    while (shown := await document(client, long_job))["status"] not in ENDED and (not kills or count < kills):
        began = time.perf_counter()
        await asyncio.sleep(max(0.0, every - 5))
        holder = await holder_of(admin, long_job)
        victim = next((one for one in service.workers if holder and one.pid == holder["pid"]), None)
        if holder is None or victim is None:
            continue  # nobody is at it
        killed_at = time.perf_counter()
        victim.kill()
        service.workers.remove(victim)
        count += 1
        starting = asyncio.create_task(service.start_worker())
        found = await asyncio.gather(*(taken_over(client, task, killed_at) for task in holder["tasks"]))
        await starting
        times = [seconds for seconds in found if seconds is not None]
        took += times
        print(
            f"kill {count}: {len(times)} jobs taken over after {min(times, default=0):.1f} to "
            f"{max(times, default=0):.1f} s; the long job is at {shown['progress']} %",
            flush=True,
        )
        await asyncio.sleep(max(0.0, every - (time.perf_counter() - began)))
    return took


async def main() -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lease", type=int, default=15, help="lease_seconds")
    parser.add_argument("--every", type=float, default=30, help="seconds between two kills")
    parser.add_argument("--job", type=float, default=600, help="seconds of the long job")
    parser.add_argument("--kills", type=int, default=0, help="stop after so many; 0: when the long job has ended")
    asked = parser.parse_args()
    async with started(asked.lease) as service, service.client() as client, service.client(
        "admin", scopes="workload:admin"
    ) as admin:  # fmt: skip
        busy = [asyncio.create_task(keep_busy(client, 45)) for _ in range(OTHERS)]
        began = time.perf_counter()
        long_job = await submit(client, asked.job)
        took = await killed_again_and_again(service, client, admin, long_job, asked.every, asked.kills)
        shown = await document(client, long_job)
        print(
            f"the long job of {asked.job:.0f} s: {shown['status']} after {time.perf_counter() - began:.0f} s, "
            f"in attempt {shown['attempt']}"
        )
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    p99 = statistics.quantiles(took, n=100)[98]
    print(
        f"{len(took)} jobs taken over with a lease of {asked.lease} s: median {statistics.median(took):.1f} s, "
        f"p99 {p99:.1f} s, longest {max(took):.1f} s; aim {asked.lease + GRACE:.0f} s"
    )
    return 0 if p99 <= asked.lease + GRACE and (asked.kills or shown["status"] == "COMPLETED") else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
