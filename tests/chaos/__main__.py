"""`python -m tests.chaos --seconds 60 --seed 7`: one run, and the checker's verdict on it.

Exit status: 0 all promises were kept, 1 one was broken, 2 void (a long run with too few faults, or too little in
flight).
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.chaos.nemesis import KINDS, kinds
from tests.chaos.run import Wanted, judge, run

LONG_SECONDS = 600


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help=f"a long run from {LONG_SECONDS} on")
    parser.add_argument(
        "--seed", type=int, default=None, help="of schedule and orders; another one each time if omitted"
    )
    parser.add_argument("--rate", type=float, default=9, help="submissions a second")
    parser.add_argument("--kinds", default="", help=f"faults, with commas (default: all): {', '.join(KINDS)}")
    parser.add_argument("--doubles", type=float, default=0.2, help="in which part of the steps two faults come at once")
    parser.add_argument("--no-calm", action="store_true", help="leave out the calm at the end: see `run`")
    parser.add_argument("--drain", type=float, default=60, help="seconds in which everything must have ended")
    parser.add_argument(
        "--directory", type=Path, default=None, help="for the journals; kept. Else removed if all is well"
    )
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    print(f"seed {seed}: repeat it with --seed {seed}", flush=True)
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="longhaul-chaos-"))
    wanted = Wanted(
        directory=directory.resolve(),
        seed=seed,
        seconds=arguments.seconds,
        rate=arguments.rate,
        kinds=kinds([name for name in arguments.kinds.split(",") if name]),
        doubles=arguments.doubles,
        is_long=arguments.seconds >= LONG_SECONDS,
        calm=not arguments.no_calm,
        drain_seconds=arguments.drain,
    )
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(wanted))
    status = judge(wanted.directory)
    print(f"{time.monotonic() - began:.0f} s in all, seed {seed}, exit status {status}", flush=True)
    if not status and arguments.directory is None:
        shutil.rmtree(directory)
    return status


if __name__ == "__main__":
    sys.exit(main())
