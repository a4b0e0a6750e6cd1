"""How much of Redis' memory a waiting and an ended task take, all that is kept about them included.

python benchmarks/memory.py [--tasks 5000]
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.staging import staged

PAYLOAD_BYTES: Final = 1024
WARMING: Final = 100


async def measure(tasks: int) -> dict[str, float]:
    """Return the bytes for each task: PENDING with a payload of 1 KB, and ended."""
    order = {"action": "bench_noop", "padding": "x" * (PAYLOAD_BYTES - len('{"id":12345,"padding":""}'))}
    async with staged() as stage:
        await stage.submit(WARMING, action="bench_noop")  # scripts, connections and lists are there from now on
        await stage.work_off(WARMING)
        empty = stage.redis_bytes()
        await stage.submit(tasks, **order)
        waiting = stage.redis_bytes()
        await stage.work_off(WARMING + tasks)
        return {
            "PENDING, with a payload of 1 KB": (waiting - empty) / tasks,
            "ended": (stage.redis_bytes() - empty) / tasks,
        }


def table(found: dict[str, float]) -> str:
    """Return the figures."""
    lines = [f"| {state} | {size:,.0f} |" for state, size in found.items()]
    return "\n".join(["| task in Redis | bytes |", "| --- | ---: |", *lines])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=5000)
    print(table(asyncio.run(measure(parser.parse_args().tasks))))


if __name__ == "__main__":
    main()
