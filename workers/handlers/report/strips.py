"""Strips: one small chart of a value over time for each series, all on the same scales."""

from datetime import datetime

import matplotlib.dates as mdates
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workers.handlers.report.anomalies import Anomaly
from workers.handlers.report.drawing import ACCENT, DATA, label

MOST_MARKS = 2000  # of one series in one chart; more would only cover each other
MOST_NUMBERS = 3

Limits = tuple[float | None, float | None]


def draw_strips(
    figure: Figure,
    series: list[str],
    days: dict[str, pl.DataFrame],
    marks: list[Anomaly],
    *,
    limits: Limits | None,
) -> None:
    """Draw a strip for each series.

    Args:
        figure: Empty.
        series: The names of the series, in order.
        days: For each series the columns `day` and `middle`, and for a band `low` and `high`.
        marks: Of any series; a value beyond the scale becomes a triangle at the edge, with its number.
        limits: Lowest and highest value that the scale must show; None for a scale from 0 that shows all.
    """
    strips = figure.subplots(len(series), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, name in zip(strips, series, strict=True):
        table = days[name]
        when = table["day"].to_numpy()
        if "low" in table.columns:
            low, high = (table[edge].cast(pl.Float64).to_numpy() for edge in ("low", "high"))
            axes.fill_between(when, low, high, color=DATA, alpha=0.22, linewidth=0)
        axes.plot(when, table["middle"].cast(pl.Float64).to_numpy(), color=DATA, linewidth=1.0)
        axes.set_title(label(name), pad=2)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    bottom, top = _scale(strips[0], limits)
    strips[0].set_ylim(bottom, top)
    for axes, name in zip(strips, series, strict=True):
        _draw_marks(axes, [mark for mark in marks if mark["series"] == name], bottom, top)
    time_axis(strips[-1])


def _draw_marks(axes: Axes, marks: list[Anomaly], bottom: float, top: float) -> None:
    strongest = sorted(marks, key=lambda mark: -mark["score"])[:MOST_MARKS]
    points: dict[str, list[tuple[float, float]]] = {}
    for mark in strongest:
        height = min(max(mark["value"], bottom), top)
        shape = "o" if height == mark["value"] else "^" if height == top else "v"
        points.setdefault(shape, []).append((place_of(mark["first"]), height))
    for shape, places in points.items():
        axes.plot(*zip(*places, strict=True), shape, color=ACCENT, markersize=4, clip_on=False)
    lasting = [mark for mark in strongest if mark["first"] != mark["last"]]
    for mark in lasting:
        ends = [place_of(mark["first"]), place_of(mark["last"])]
        axes.plot(ends, [mark["value"]] * 2, color=ACCENT, linewidth=2)
    for mark in [mark for mark in strongest if not bottom <= mark["value"] <= top][:MOST_NUMBERS]:
        height = min(max(mark["value"], bottom), top)
        text = f" {mark['value']:,.5g}"
        place = (place_of(mark["first"]), height)
        axes.annotate(text, place, xytext=(3, -3), textcoords="offset points", color=ACCENT, va="top")


def _scale(axes: Axes, limits: Limits | None) -> tuple[float, float]:
    """Return the ends of the scale: all of it, or from one extreme quantile to the other with a little air."""
    if limits is None or limits[0] is None or limits[1] is None or limits[0] == limits[1]:
        bottom, top = axes.get_ylim()
        return (min(bottom, 0.0), top) if limits is None else (bottom, top)
    air = 0.12 * (limits[1] - limits[0])
    return limits[0] - air, limits[1] + air


def time_axis(axes: Axes) -> None:
    """Give the horizontal axis as few words as tell the time."""
    locator = mdates.AutoDateLocator(minticks=4, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.margins(x=0.01)
    axes.spines["bottom"].set_visible(True)


def place_of(text: str) -> float:
    """Return where an RFC 3339 time stands on the axis: days since 1970, as matplotlib counts."""
    return float(mdates.date2num(datetime.fromisoformat(text)))  # type: ignore[no-untyped-call]
