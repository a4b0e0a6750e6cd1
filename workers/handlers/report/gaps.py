"""Gaps in a regular series: the stretches in which rows are due and none is there."""

from datetime import timedelta
from typing import TypedDict

import polars as pl

from workers.handlers.report.profiling import written_times


class Gap(TypedDict):
    """A stretch of missing rows: times of the first and the last of them, as RFC 3339."""

    series: str
    first: str
    last: str
    missing: int


class Coverage(TypedDict):
    """How complete one series is, from its own first row to its own last."""

    series: str
    rows: int
    first: str
    last: str
    expected: int
    """Rows due between first and last, both included."""
    missing: int
    repeated: int
    """Rows whose time an earlier row of the series has already."""
    gaps: list[Gap]


def find_gaps(times: pl.Series, *, series: str, interval: timedelta) -> Coverage:
    """Find the gaps of one series.

    A gap lies between two neighbouring rows that are at least one and a half intervals apart, so a clock that drifts a
    little makes none; its missing rows are the distance in intervals, rounded, less one.

    Args:
        times: Of the series' rows: Datetime, UTC, in any order, at least one and none null.
        series: Its name, for the result.
        interval: How often a row is due.
    """
    distinct = times.unique().sort()
    table = pl.DataFrame({"before": distinct[:-1], "after": distinct[1:]}).with_columns(
        missing=((pl.col("after") - pl.col("before")) / interval).round(mode="half_away_from_zero").cast(pl.Int64) - 1
    )
    table = table.filter(pl.col("missing") >= 1)
    firsts = written_times(table["before"] + interval)
    lasts = written_times(table["after"] - interval)
    counts = table["missing"].to_list()
    gaps = [
        Gap(series=series, first=first, last=last, missing=missing)
        for first, last, missing in zip(firsts, lasts, counts, strict=True)
    ]
    first, last = written_times(distinct.gather([0, -1]))
    missing = sum(counts)
    return Coverage(
        series=series,
        rows=len(times),
        first=first,
        last=last,
        expected=len(distinct) + missing,
        missing=missing,
        repeated=len(times) - len(distinct),
        gaps=gaps,
    )
