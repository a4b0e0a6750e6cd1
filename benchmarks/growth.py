"""Does a task cost more when many wait, or many have ended? CPU time of API, worker, Redis and RabbitMQ together.

    python benchmarks/growth.py [--backlogs 1000 10000 100000] [--ended 1000 100000 1000000] [--sample 1000]

CPU time and not seconds: a machine that others use as well tells the same.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.plots import draw_growth
from benchmarks.staging import Stage, staged

BACKLOGS: Final = (1_000, 10_000, 100_000)
ENDED: Final = (1_000, 100_000)
SAMPLE: Final = 1000
"""Tasks over which a cost is taken."""


Costs = list[tuple[int, float, float]]
"""For each size, the ms of CPU time of a submission and of a task's run."""


async def measure_backlogs(backlogs: Sequence[int], sample: int) -> Costs:
    """Return the costs while so many tasks wait, over `sample` tasks of each."""
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


async def measure_ended(sizes: Sequence[int], sample: int) -> Costs:
    """Return the costs while Redis shows, and SQL has, so many tasks that have ended."""
    found = []
    async with staged() as stage:
        await stage.submit(sample, action="bench_noop")
        await stage.work_off(sample)
        for size in sorted(sizes):
            await stage.add_ended(max(0, size - stage.ended()))
            before = stage.ended()
            await stage.submit(2 * sample, action="bench_noop")  # so that the next ones meet a worker that is warm
            submission = await stage.cost(sample, partial(stage.submit, sample, action="bench_noop"))
            _, run = await _drain(stage, sample)
            await stage.work_off(before + 3 * sample)
            found.append((size, submission, run))
            print(f"ended {size:,}: {submission:.3f} ms a submission, {run:.3f} ms a run", file=sys.stderr)
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


def table(what: str, found: Costs) -> str:
    """Return the figures, and each over that of the smallest size."""
    _, first_submission, first_run = found[0]
    lines = [f"| {what} | ms CPU a submission | x first | ms CPU a run | x first |", "| ---: " * 5 + "|"]
    lines += [
        f"| {size:,} | {submission:.3f} | {submission / first_submission:.2f} | {run:.3f} | {run / first_run:.2f} |"
        for size, submission, run in found
    ]
    return "\n".join(lines)


def measure(backlogs: Sequence[int] = BACKLOGS, ended: Sequence[int] = ENDED, sample: int = SAMPLE) -> dict[str, Costs]:
    """Measure what is asked for; return the costs by what has grown."""
    found = {}
    if backlogs:
        found["waiting tasks"] = asyncio.run(measure_backlogs(backlogs, sample))
    if ended:
        found["ended tasks"] = asyncio.run(measure_ended(ended, sample))
    return found


def tables(found: dict[str, Costs]) -> str:
    """Return the figures, a table for each kind of growth."""
    return "\n\n".join(table(what, costs) for what, costs in found.items())


def main() -> None:
    """Measure, print the tables, and draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backlogs", type=int, nargs="*", default=list(BACKLOGS))
    parser.add_argument("--ended", type=int, nargs="*", default=list(ENDED))
    parser.add_argument("--sample", type=int, default=SAMPLE, help="tasks over which a cost is taken")
    parser.add_argument("--plot", type=Path, help="an SVG to draw them in")
    asked = parser.parse_args()
    found = measure(asked.backlogs, asked.ended, asked.sample)
    print(tables(found))
    if asked.plot:
        draw_growth(found, asked.plot)


if __name__ == "__main__":
    main()
