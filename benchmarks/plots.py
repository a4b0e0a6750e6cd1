"""Plots of what `bench.py` has found, as SVG: rates beside the peers', costs as tasks gather (extra: `report`)."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

RATES: Final = {"submit": "submissions/s", "drain": "trivial jobs drained/s", "status": "status polls/s"}
OURS: Final = "#0b6e4f"
PEERS: Final = "#9aa5b1"
INK: Final = "#1f2933"

mpl.rcParams.update({"svg.hashsalt": "longhaul", "font.size": 9, "text.color": INK, "axes.labelcolor": INK})


def draw_rates(rounds: dict[str, list[dict[str, Any]]], path: Path, *, own: str) -> None:
    """Draw each measure's rates: a bar to the median, and a dot for each round.

    Args:
        rounds: For each target, what was found in each round.
        path: Where the SVG goes.
        own: Which target is ours.
    """
    found = {
        measure: {
            target: seen
            for target, measured in rounds.items()
            if (seen := [one[measure]["rate"] for one in measured if one.get(measure, {}).get("rate")])
        }
        for measure in RATES
    }
    shown = {measure: rates for measure, rates in found.items() if rates}
    figure = Figure(figsize=(4 * max(1, len(shown)), 2.6), layout="constrained")
    for place, (measure, rates) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(1, len(shown), place)
        names = sorted(rates, key=lambda name: statistics.median(rates[name]))
        medians = [statistics.median(rates[name]) for name in names]
        axes.barh(names, medians, color=[OURS if name == own else PEERS for name in names])
        for line, name in enumerate(names):
            axes.plot(rates[name], [line] * len(rates[name]), "o", color=INK, markersize=3)
        axes.set_title(RATES[measure])
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def draw_growth(costs: Mapping[str, Sequence[tuple[int, float, float]]], path: Path) -> None:
    """Draw the ms of CPU time of a submission and of a run, over the number of tasks.

    Args:
        costs: For each kind of growth, the sizes with both costs.
        path: Where the SVG goes.
    """
    figure = Figure(figsize=(4 * max(1, len(costs)), 2.6), layout="constrained")
    for place, (what, found) in enumerate(costs.items(), start=1):
        axes = figure.add_subplot(1, len(costs), place)
        sizes = [size for size, _, _ in found]
        axes.plot(sizes, [submission for _, submission, _ in found], "o-", color=OURS, label="a submission")
        axes.plot(sizes, [run for _, _, run in found], "s--", color=INK, label="a run")
        axes.set(xscale="log", xlabel=what, ylabel="ms of CPU, all processes")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
