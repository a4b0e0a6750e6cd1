"""How prefetch and concurrency suit jobs of different lengths: jobs a second of one worker process.

    python benchmarks/prefetch.py [--milliseconds 0 200] [--concurrency 10 100 400] [--factors 1 4] [--seconds 4]

Each line is a worker of its own over a queue that is full enough for all of the time.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import Stage, staged

MOST: int = 3000
"""Jobs in a queue at most: on a slow machine it takes long to fill."""


async def measure(lengths: list[int], slots: list[int], factors: list[int], seconds: float) -> list[str]:
    """Return the lines of the table."""
    lines = ["| ms a job | concurrency | prefetch | jobs/s | of what the slots allow |", "| ---: " * 5 + "|"]
    async with staged() as stage:
        for milliseconds in lengths:
            for concurrency in slots:
                for factor in factors:
                    rate = await _rate(stage, milliseconds, concurrency, factor * concurrency, seconds)
                    share = f"{rate * milliseconds / 1000 / concurrency:.0%}" if milliseconds else ""
                    lines.append(f"| {milliseconds} | {concurrency} | {factor * concurrency} | {rate:,.0f} | {share} |")
                    print(lines[-1], file=sys.stderr)
    return lines


async def _rate(stage: Stage, milliseconds: int, concurrency: int, prefetch: int, seconds: float) -> float:
    """Fill the queue, let a worker run for a while, and empty the queue again."""
    allowed = concurrency / milliseconds * 1000 if milliseconds else MOST
    jobs = min(MOST, int(allowed * (seconds + 1)) + concurrency)
    before = stage.ended()
    order = {"action": "bench_sleep", "milliseconds": milliseconds} if milliseconds else {"action": "bench_noop"}
    await stage.submit(jobs, **order)
    environment = {
        "LONGHAUL_QUEUES__BENCH__PREFETCH": str(prefetch),
        "LONGHAUL_QUEUES__BENCH__CONCURRENCY": str(concurrency),
    }
    worker = await stage.service.start_worker(environment=environment)
    await stage.until_ended(before + min(concurrency, jobs // 10))
    first, began = stage.ended(), time.monotonic()
    while (now := time.monotonic()) < began + seconds and stage.ended() < before + jobs:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.02)
    rate = (stage.ended() - first) / (now - began)
    await stage.until_ended(before + jobs)
    worker.end(patience=15)
    stage.service.workers.clear()
    return rate


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--milliseconds", type=int, nargs="+", default=[0, 200])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 100, 400])
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4], help="prefetch over concurrency")
    parser.add_argument("--seconds", type=float, default=4)
    asked = parser.parse_args()
    print("\n".join(asyncio.run(measure(asked.milliseconds, asked.concurrency, asked.factors, asked.seconds))))


if __name__ == "__main__":
    main()
