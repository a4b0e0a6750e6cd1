"""The charts of a report, one function each."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workers.handlers.report.analysis import Analysis
from workers.handlers.report.drawing import ACCENT, DATA, INK, SERIES_COLOURS, Chart, bare, draw, label
from workers.handlers.report.strips import MOST_MARKS, draw_strips, place_of, time_axis

Item = TypeVar("Item")

MOST_SERIES = len(SERIES_COLOURS)
MOST_MEASURES = 12
MOST_COLUMNS = 20
EXTREMES = (0.001, 0.999)  # quantiles that every axis shows
BULK = (0.005, 0.995)  # quantiles between which a distribution is drawn
BINS = 36
HOURS = 24
FEWEST_ROWS_OF_AN_HOUR = 30
MOST_FLAT = 2  # different values, null among them, of a median that does not move


def draw_charts(analysis: Analysis) -> Iterator[tuple[int, Chart]]:
    """Draw the charts, one at a time.

    Yields:
        How many are still to come, and the chart.
    """
    series = _shown_series(analysis)
    measures = analysis.measures[:MOST_MEASURES]
    with_nulls = [one["name"] for one in analysis.profiles if one["nulls"]][:MOST_COLUMNS]
    painters: list[Callable[[], Chart | None]] = []
    if analysis.gaps:
        painters.append(lambda: _coverage(analysis, series))
    if not analysis.is_regular:
        painters.append(lambda: _rows_per_day(analysis, series))
    if with_nulls:
        painters.append(lambda: _missing_values(analysis, with_nulls))
    painters += [lambda column=column: _over_time(analysis, series, column) for column in measures]  # type: ignore[misc]
    painters.append(lambda: _typical_day(analysis, series, measures))
    if measures:
        painters.append(lambda: _distributions(analysis, measures))
    for number, paint in enumerate(painters, start=1):
        chart = paint()
        if chart:
            yield len(painters) - number, chart


def _shown_series(analysis: Analysis) -> list[str]:
    """Return the largest series, by name: a chart of hundreds would show nothing."""
    named = (
        analysis.rows[analysis.dataset.series_column]
        .value_counts()
        .sort(["count", analysis.dataset.series_column], descending=[True, False])
    )
    return sorted(named[analysis.dataset.series_column].head(MOST_SERIES))


def _coverage(analysis: Analysis, series: list[str]) -> Chart:
    shown = [one for one in analysis.coverage if one["series"] in series]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        bare(axes)
        axes.invert_yaxis()
        for row, one in enumerate(shown):
            first, last = place_of(one["first"]), place_of(one["last"])
            axes.barh(row, last - first, left=first, height=0.5, color=DATA, alpha=0.22)
            longest = sorted(one["gaps"], key=lambda gap: -gap["missing"])[:MOST_MARKS]
            starts = [place_of(gap["first"]) for gap in longest]
            spans = [(start, place_of(gap["last"]) - start) for start, gap in zip(starts, longest, strict=True)]
            # A gap of an hour in a year is thinner than any pixel: the edge keeps it visible.
            axes.broken_barh(spans, (row - 0.25, 0.5), facecolors=ACCENT, edgecolors=ACCENT, linewidth=1.1)
        axes.set_yticks(range(len(shown)), [label(one["series"]) for one in shown])
        axes.tick_params(axis="y", labelcolor=INK)
        time_axis(axes)

    return draw(
        "coverage",
        "Where rows are missing",
        "Each bar runs from a series' first row to its last; a red mark is a gap. Marks are drawn wider than true.",
        paint,
        height=0.9 + 0.42 * len(shown),
    )


def _missing_values(analysis: Analysis, columns: list[str]) -> Chart:
    month = pl.col(analysis.dataset.time_column).dt.truncate("1mo").alias("month")
    shares = (
        analysis.rows.filter(pl.col(analysis.dataset.time_column).is_not_null())
        .group_by(month)
        .agg(*(pl.col(name).is_null().mean().alias(f"share {name}") for name in columns))
        .sort("month")
    )
    months = shares["month"].dt.strftime("%b\n%Y" if shares.height <= HOURS else "%Y").to_list()
    table = shares.drop("month").to_numpy().T

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        bare(axes)
        axes.set_xlim(-0.5, len(months) - 0.5)
        axes.set_ylim(len(columns) - 0.5, -0.5)
        for (row, place), share in np.ndenumerate(table):
            axes.barh(row, 0.94, left=place - 0.47, height=0.88, color=ACCENT, alpha=0.05 + 0.8 * share, linewidth=0)
            if share > 0 and len(months) <= HOURS:
                text = "<1" if share < 0.01 else f"{100 * share:.0f}"
                axes.text(place, row, text, ha="center", va="center", color=INK, fontsize=7.5)
        step = max(1, len(months) // 14)
        axes.set_xticks(range(0, len(months), step), months[::step])
        axes.set_yticks(range(len(columns)), [label(name) for name in columns])
        axes.tick_params(axis="y", labelcolor=INK)

    return draw(
        "missing-values",
        "Missing values, % of rows by month",
        "Only columns that lack a value somewhere. An empty cell means that none is missing.",
        paint,
        height=1.1 + 0.27 * len(columns),
    )


def _rows_per_day(analysis: Analysis, series: list[str]) -> Chart:
    days = {name: _daily(analysis, name, pl.len().alias("middle")) for name in series}
    marks = [one for one in analysis.anomalies if one["kind"] == "rows"]

    def paint(figure: Figure) -> None:
        draw_strips(figure, series, days, marks, limits=None)

    return draw(
        "rows-per-day",
        "Events per day",
        "One row for each series, by UTC day. Red: days unlike the same weekday in the weeks around.",
        paint,
        height=0.7 + 1.15 * len(series),
    )


def _over_time(analysis: Analysis, series: list[str], column: str) -> Chart:
    value = pl.col(column)
    if analysis.is_regular:
        low, high, band = value.min(), value.max(), "lowest to highest reading"
    else:
        low, high, band = value.quantile(0.25), value.quantile(0.75), "the middle half"
    days = {
        name: _daily(analysis, name, value.median().alias("middle"), low.alias("low"), high.alias("high"))
        for name in series
    }
    marks = [one for one in analysis.anomalies if one["column"] == column and one["kind"] not in ("rows", "missing")]

    def paint(figure: Figure) -> None:
        spread = pl.concat(days.values())
        edges = (spread["low"].quantile(EXTREMES[0]), spread["high"].quantile(EXTREMES[1]))
        draw_strips(figure, series, days, marks, limits=edges)

    caption = f"Line: the median of each UTC day. Band: {band} of the day."
    if marks:
        caption += " Red: anomalies; a triangle at the edge stands for a value beyond the scale."
    return draw(
        f"measure-{analysis.measures.index(column) + 1:02d}",
        label(column),
        caption,
        paint,
        height=0.7 + 1.15 * len(series),
    )


def _typical_day(analysis: Analysis, series: list[str], measures: list[str]) -> Chart | None:
    hour = pl.col(analysis.dataset.time_column).dt.hour().cast(pl.Int64).alias("hour")
    hours = pl.DataFrame({"hour": range(HOURS)})
    summaries = [pl.col(measure).median().alias(f"median {measure}") for measure in measures]
    by_hour = {}
    for one in series:
        table = analysis.rows_of(one).group_by(hour).agg(pl.len().alias("rows"), *summaries)
        # An hour with a handful of rows has no typical value: the line breaks there.
        usual = table.filter(pl.col("rows") >= FEWEST_ROWS_OF_AN_HOUR).drop("rows")
        by_hour[one] = (
            hours.join(table.select("hour", "rows"), on="hour", how="left")
            .join(usual, on="hour", how="left")
            .sort("hour")
        )
    panels = [(f"median {measure}", label(measure)) for measure in measures]
    panels = [panel for panel in panels if pl.concat(by_hour[one][panel[0]] for one in series).n_unique() > MOST_FLAT]
    if not analysis.is_regular:
        panels.insert(0, ("rows", "events, all days together"))
    if not panels:
        return None
    strips = -(-len(panels) // 3)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(strips, 3, squeeze=False)
        for axes, (name, title) in _panels(grid, panels):
            for colour, one in zip(SERIES_COLOURS, series, strict=False):
                values = by_hour[one][name].cast(pl.Float64).to_numpy()
                axes.plot(range(HOURS), values, color=colour, linewidth=1.4, label=label(one))
            axes.set_title(title)
            axes.set_xlim(-0.5, HOURS - 0.5)
            axes.set_xticks([0, 6, 12, 18])
            axes.yaxis.set_major_locator(MaxNLocator(4))
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower left", ncols=len(series))

    return draw(
        "typical-day",
        "The typical day",
        "The median by hour of the day, UTC, over the whole period. The scales do not begin at zero; measures whose "
        "median stays the same all day are left out.",
        paint,
        height=1.0 + 1.4 * strips,
    )


def _distributions(analysis: Analysis, measures: list[str]) -> Chart:
    def paint(figure: Figure) -> None:
        grid = figure.subplots(-(-len(measures) // 3), 3, squeeze=False)
        for axes, measure in _panels(grid, measures):
            values = analysis.rows[measure].drop_nulls().cast(pl.Float64)
            low, high = (values.quantile(share, "linear") or 0.0 for share in BULK)
            inside = values.filter(values.is_between(low, high)).to_numpy()
            distinct = np.unique(inside)
            axes.hist(inside, bins=min(BINS, max(1, len(distinct))), color=DATA, linewidth=0)
            axes.set_title(label(measure))
            axes.set_yticks([])
            axes.xaxis.set_major_locator(MaxNLocator(5))

    return draw(
        "distributions",
        "How the values spread",
        "Each measure from its 0.5 % to its 99.5 % quantile; heights are numbers of rows, each on a scale of its own.",
        paint,
        height=0.6 + 1.35 * -(-len(measures) // 3),
    )


def _panels(grid: Any, items: list[Item]) -> Iterator[tuple[Axes, Item]]:
    """Give each item a panel of the grid, and take away the panels that are left over."""
    panels = list(grid.flat)
    for panel in panels[len(items) :]:
        panel.remove()
    return zip(panels, items, strict=False)


def _daily(analysis: Analysis, series: str, *summaries: pl.Expr) -> pl.DataFrame:
    day = pl.col(analysis.dataset.time_column).dt.truncate("1d").alias("day")
    days = analysis.rows_of(series).group_by(day).agg(*summaries).sort("day")
    return days.upsample("day", every="1d") if days.height else days
