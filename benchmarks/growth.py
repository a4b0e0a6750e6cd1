"""Does a task cost more when many wait? CPU time of API, worker, Redis and RabbitMQ together, as the backlog grows.

    python benchmarks/growth.py [--backlogs 1000 10000 100000] [--sample 1000]

CPU time and not seconds: a machine that others use as well tells the same.
"""

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import Stage, staged

BACKLOGS: Final = (1_000, 10_000, 100_000)
SAMPLE: Final = 1000
"""Tasks over which a cost is taken."""


async def measure(backlogs: list[int], sample: int) -> list[tuple[int, float, float]]:
    """Return, for each backlog, the ms of CPU time of a submission and of a task's run, over `sample` tasks of each."""
    found = []
    async with staged() as stage:
        await stage.submit(sample, action="bench_noop")  # everybody is warm from now on
        waiting = sample
        for backlog in sorted(backlogs):
            await stage.submit(backlog - waiting, action="bench_noop")
            submission = await stage.cost(sample, partial(stage.submit, sample, action="bench_noop"))
            ended, run = await _drain(stage, sample)
            found.append((backlog, submission, run))
            waiting = backlog + sample - ended
            print(f"backlog {backlog:,}: {submission:.3f} ms a submission, {run:.3f} ms a run", file=sys.stderr)
    return found


async def _drain(stage: Stage, sample: int) -> tuple[int, float]:
    """Run some of the waiting tasks; return how many, and the ms of CPU time of each, the worker's start apart."""
    before = stage.ended()
    worker = await stage.service.start_worker()
    await stage.until_ended(before + sample // 4)
    first, cpu = stage.ended(), stage.cpu_seconds()
    await stage.until_ended(first + sample)
    ended, used = stage.ended() - first, stage.cpu_seconds() - cpu
    worker.end(patience=15)
    stage.service.workers.clear()
    return stage.ended() - before, used / ended * 1000


def table(found: list[tuple[int, float, float]]) -> str:
    """Return the figures, and each over that of the smallest backlog."""
    _, first_submission, first_run = found[0]
    lines = ["| waiting tasks | ms CPU a submission | x first | ms CPU a run | x first |", "| ---: " * 5 + "|"]
    lines += [
        f"| {backlog:,} | {submission:.3f} | {submission / first_submission:.2f} | {run:.3f} | {run / first_run:.2f} |"
        for backlog, submission, run in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backlogs", type=int, nargs="+", default=list(BACKLOGS))
    parser.add_argument("--sample", type=int, default=SAMPLE, help="tasks over which a cost is taken")
    asked = parser.parse_args()
    print(table(asyncio.run(measure(asked.backlogs, asked.sample))))


if __name__ == "__main__":
    main()
