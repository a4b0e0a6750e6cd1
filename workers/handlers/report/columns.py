"""What a column is: only measures are searched for anomalies, drawn and aggregated.

The kind is told from the type and, for numbers that are no quantities, from the name and the values; the report names
the kind of every column, so a reader sees what was not searched.
"""

import re
from enum import StrEnum

import polars as pl

CALENDAR_WORDS = frozenset({"year", "quarter", "month", "week", "weekday", "day", "hour", "minute", "second"})
LABEL_WORDS = frozenset({"id", "code", "number", "no", "key", "zip", "flight", "index"})
BEARING_WORDS = frozenset({"dir", "direction", "bearing", "heading", "azimuth"})
FULL_CIRCLE = 360
LAST_CLOCK_TIME = 2400
MINUTES = 60


class Kind(StrEnum):
    """What the cells of a column are."""

    TIME = "time"
    SERIES = "series"
    MEASURE = "measure"
    BEARING = "bearing"
    CALENDAR = "calendar field"
    CLOCK = "clock time"
    LABEL = "label"
    TEXT = "text"
    EMPTY = "empty"


def kind_of(column: pl.Series, *, time_column: str, series_column: str) -> Kind:
    """Tell what a column is.

    Args:
        column: All its cells.
        time_column: The name of the column of times.
        series_column: The name of the column that tells the series apart.
    """
    if column.name == time_column:
        return Kind.TIME
    if column.name == series_column:
        return Kind.SERIES
    if column.null_count() == len(column):
        return Kind.EMPTY
    if not column.dtype.is_numeric():
        return Kind.TEXT
    words = set(re.split(r"[^a-z]+", column.name.lower()))
    if column.dtype.is_integer():
        if words & CALENDAR_WORDS:
            return Kind.CALENDAR
        if words & LABEL_WORDS:
            return Kind.LABEL
        if "time" in words and _all_are_clock_times(column):
            return Kind.CLOCK
    if words & BEARING_WORDS and column.is_between(0, FULL_CIRCLE).all():
        return Kind.BEARING
    return Kind.MEASURE


def _all_are_clock_times(column: pl.Series) -> bool:
    """Say whether all cells read as hours and minutes written together: 517 for 5:17."""
    return bool(column.is_between(0, LAST_CLOCK_TIME).all()) and bool((column % 100 < MINUTES).all())
