"""Longhaul beside its peers, in interleaved rounds on the same machine, against the goals of issue 10, as ratios.

    python benchmarks/bench.py [--rounds 3] [--peers DIR] [--out DIR] [--only submit drain …] [--skip-growth]

The peers and their harness are in ../shared/bench (`--harness`); their environments are made in `--peers` when they are
not there. Without the harness only what needs no peer is measured: memory and growth. A ratio is the median over the
rounds of the quotient within one round, so that the machine's moods cancel out. Under `cores` stands
what the figures are worth: with much foreign use they say little.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import growth, memory
from benchmarks.plots import draw_growth, draw_rates

ROOT: Final = Path(__file__).parents[1]
OWN: Final = "longhaul"
TARGETS: Final = (OWN, "floor-http", "naive", "taskiq", "celery")
MEASURES: Final = ("submit", "drain", "status", "memory", "latency")
UV: Final = (sys.executable, str(ROOT / "deploy" / "local" / "run_uv.py"))

Rounds = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A line of issue 10: our figure over a peer's."""

    what: str
    measure: str
    field: str
    peer: str
    goal: float
    least: float
    lower_is_better: bool = False


GOALS: Final = (
    Goal("submissions/s", "submit", "rate", "floor-http", 1.0, 0.5),
    Goal("submissions/s", "submit", "rate", "taskiq", 3.0, 1.5),
    Goal("submissions/s", "submit", "rate", "celery", 10.0, 5.0),
    Goal("p99 of a submission at 50/s", "latency", "answer_p99_ms", "naive", 1.0, 1.5, lower_is_better=True),
    Goal("trivial jobs drained/s", "drain", "rate", "naive", 3.0, 1.2),
    Goal("trivial jobs drained/s", "drain", "rate", "taskiq", 5.0, 2.0),
    Goal("trivial jobs drained/s", "drain", "rate", "celery", 5.0, 2.0),
    Goal("status polls/s", "status", "rate", "floor-http", 1.0, 0.6),
    Goal("idle worker's PSS", "memory", "worker", "celery", 0.5, 0.7, lower_is_better=True),
)


def peers_python(directory: Path, harness: Path, name: str, requirements: str) -> Path:
    """Return the interpreter of the peers' environment; if it is not there, it is made of the Python that we run on."""
    python = directory / name / "bin" / "python"
    if not python.exists():
        subprocess.run([*UV, "venv", "--quiet", "--python", sys.executable, directory / name], check=True)
        install = ["pip", "install", "--quiet", "--python", str(python), "--requirement", str(harness / requirements)]
        subprocess.run([*UV, *install], check=True)
    return python


def run_harness(asked: argparse.Namespace, out: Path) -> Rounds:
    """Run the rounds, and return what was found in each of each target."""
    python = peers_python(asked.peers, asked.harness, "main", "requirements.txt")
    with tempfile.TemporaryDirectory(prefix="longhaul-bench-") as scratch:
        command = [python, "run.py", scratch, "--more", ROOT / "benchmarks" / "own.toml", "--targets", *asked.targets]
        command += ["--only", *asked.only, "--rounds", str(asked.rounds), "--seconds", str(asked.seconds)]
        command += ["--jobs", str(asked.jobs), "--json", out / "results.json", *(["--kill"] if asked.kill else [])]
        with (out / "harness.md").open("w") as output:
            subprocess.run(command, cwd=asked.harness, check=True, stdout=output)
    rounds: Rounds = json.loads((out / "results.json").read_text())["rounds"]
    return rounds


def ratio(rounds: Rounds, goal: Goal) -> float | None:
    """Return the median of the quotients, each within a round; None if there is none."""
    ours, theirs = rounds.get(OWN, []), rounds.get(goal.peer, [])
    figures = [
        (mine[goal.measure].get(goal.field), peer[goal.measure].get(goal.field))
        for mine, peer in zip(ours, theirs, strict=False)
        if goal.measure in mine and goal.measure in peer
    ]
    quotients = [mine / peer for mine, peer in figures if mine and peer]
    return statistics.median(quotients) if quotients else None


def table(rounds: Rounds) -> str:
    """Return our ratios beside the goals."""
    lines = ["| what | over | measured | goal | least | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for goal in GOALS:
        found = ratio(rounds, goal)
        if found is None:
            continue
        reached = found <= goal.least if goal.lower_is_better else found >= goal.least
        verdict = "yes" if reached else "**no**"
        lines.append(f"| {goal.what} | {goal.peer} | {found:.2f} x | {goal.goal} x | {goal.least} x | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for, write the tables, and draw the plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of load in each measure")
    parser.add_argument("--jobs", type=int, default=5000, help="pre-filled for the drain")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--kill", action="store_true", help="also SIGKILL a worker amid 500 jobs")
    parser.add_argument("--skip-growth", action="store_true", help="no memory, no growth")
    parser.add_argument("--harness", type=Path, default=ROOT.parent / "shared" / "bench")
    peers = Path(tempfile.gettempdir()) / "longhaul-bench-peers"
    parser.add_argument("--peers", type=Path, default=peers, help="where the peers' environments are, or are made")
    parser.add_argument("--out", type=Path, default=ROOT / ".run" / "bench", help="where the results go")
    asked = parser.parse_args()
    asked.harness, asked.peers, out = asked.harness.resolve(), asked.peers.resolve(), asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    if (asked.harness / "run.py").exists():
        rounds = run_harness(asked, out)
        parts += [table(rounds), (out / "harness.md").read_text()]
        draw_rates(rounds, out / "rates.svg", own=OWN)
    else:
        print(f"no harness at {asked.harness}: measuring without the peers", file=sys.stderr)
    if not asked.skip_growth:
        parts.append(memory.table(asyncio.run(memory.measure(asked.jobs))))
        grown = growth.measure()
        parts.append(growth.tables(grown))
        draw_growth(grown, out / "growth.svg")
    (out / "results.md").write_text("\n\n".join(parts) + "\n")
    print((out / "results.md").read_text())


if __name__ == "__main__":
    main()
