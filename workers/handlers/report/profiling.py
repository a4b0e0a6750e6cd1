"""The profile of a column: what it is, how much of it is missing, and how its values spread."""

from typing import Any, NotRequired, TypedDict

import polars as pl

from workers.handlers.report.columns import kind_of

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COMMON_VALUES = 3
LONGEST_TEXT = 80  # of a value that is shown; a cell may hold a book


class ColumnProfile(TypedDict):
    """One column. Absent keys mean: does not apply to this type."""

    name: str
    type: str
    kind: str
    nulls: int
    distinct: int
    """Different values, null not counted."""
    min: NotRequired[float | str]
    max: NotRequired[float | str]
    mean: NotRequired[float]
    quantiles: NotRequired[list[float]]
    """At 5, 25, 50, 75 and 95 %, interpolated linearly."""
    common: NotRequired[list[tuple[str, int]]]
    """Of a column of text: the most frequent values and their counts."""


def profile_column(column: pl.Series, *, time_column: str, series_column: str) -> ColumnProfile:
    """Profile a column; the result is JSON, times as RFC 3339.

    Args:
        column: All its cells.
        time_column: The name of the column of times.
        series_column: The name of the column that tells the series apart.
    """
    filled = column.drop_nulls()
    profile = ColumnProfile(
        name=column.name,
        type=str(column.dtype.base_type()),
        kind=kind_of(column, time_column=time_column, series_column=series_column),
        nulls=column.null_count(),
        distinct=filled.n_unique(),
    )
    if filled.is_empty():
        return profile
    if column.dtype.is_numeric():
        numbers = filled.cast(pl.Float64).sort()
        profile["min"], profile["max"] = numbers[0], numbers[-1]
        profile["mean"] = _number(numbers.mean())
        profile["quantiles"] = [_number(numbers.quantile(share, "linear")) for share in QUANTILES]
    elif column.dtype == pl.Datetime:
        profile["min"], profile["max"] = written_times(pl.Series([filled.min(), filled.max()], dtype=column.dtype))
    elif column.dtype == pl.String:
        counts = filled.value_counts(sort=False).sort(["count", column.name], descending=[True, False])
        profile["common"] = [(str(value)[:LONGEST_TEXT], count) for value, count in counts.head(COMMON_VALUES).rows()]
    return profile


def written_times(times: pl.Series) -> list[str]:
    """Write times as RFC 3339 in UTC, to the second."""
    return times.dt.strftime("%Y-%m-%dT%H:%M:%SZ").to_list()


def _number(value: Any) -> float:
    return float(value)
