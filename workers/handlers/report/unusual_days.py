"""Unusual days of events, which come when they come: too many or too few rows, another level, more missing values.

Days have weekly habits (fewer flights on Saturdays), so a day is compared with its own weekday in the weeks around it.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from workers.handlers.report.anomalies import MAD_TO_SIGMA, Anomaly, Search
from workers.handlers.report.profiling import written_times

WEEKS_AROUND = 4
SIGMAS = 6.0
FEWEST_DAYS = 35
LEAST_SHARE_SIGMA = 0.01  # of missing values: a share that is 0 on most days has no spread of its own

Floats = npt.NDArray[np.float64]


def daily(events: pl.DataFrame, measures: list[str], *, time_column: str) -> pl.DataFrame:
    """Summarise one series' events by UTC day.

    Args:
        events: The series' rows, none without a time.
        measures: The columns to summarise.
        time_column: The name of the column of times.

    Returns:
        One row for each day from the first to the last, ascending: `day` (Datetime, UTC), `rows` (0 on a day without
        events), and for each measure its daily median and, as `missing:NAME`, its share of nulls; null on empty days.
    """
    days = (
        events.group_by(pl.col(time_column).dt.truncate("1d").alias("day"))
        .agg(
            pl.len().alias("rows"),
            *(pl.col(name).median().alias(name) for name in measures),
            *(pl.col(name).is_null().mean().alias(f"missing:{name}") for name in measures),
        )
        .sort("day")
    )
    return days.upsample("day", every="1d").with_columns(pl.col("rows").fill_null(0))


def find_unusual_days(days: pl.DataFrame, *, series: str, column: str | None) -> Search:
    """Find the days that differ from the same weekday in the four weeks before and after.

    Expected is the median of those nine days; sigma is 1.4826 times the MAD of all differences from it. A day is
    unusual beyond 6 sigma. The first and the last day are not judged: the data begin and end inside them.

    Args:
        days: As `daily` returns them.
        series: The series' name, for the result.
        column: The measure whose daily median and share of nulls are judged; None to judge the number of rows.
    """
    if days.height < FEWEST_DAYS:
        return Search(anomalies=[], skipped=f"fewer than {FEWEST_DAYS} days")
    if column is None:
        found = _judged(days, "rows", series, "rows", "rows", least_sigma=0.0)
    else:
        found = _judged(days, column, series, column, "level", least_sigma=0.0)
        missing = _judged(days, f"missing:{column}", series, column, "missing", least_sigma=LEAST_SHARE_SIGMA)
        found += [one for one in missing if one["value"] > one["expected"]]
    return Search(anomalies=sorted(found, key=lambda one: (one["first"], one["kind"])), skipped=None)


def _judged(days: pl.DataFrame, name: str, series: str, column: str, kind: str, *, least_sigma: float) -> list[Anomaly]:
    values = days[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    expected = _same_weekday_median(values)
    residuals = np.abs(values - expected)
    known = residuals[~np.isnan(residuals)]
    sigma = max(MAD_TO_SIGMA * float(np.median(known)), least_sigma) if len(known) else 0.0
    if sigma <= 0:
        return []
    residuals[[0, -1]] = np.nan
    places = np.nonzero(residuals > SIGMAS * sigma)[0]
    times = written_times(days["day"].gather(places))
    return [
        Anomaly(
            series=series,
            column=column,
            kind=kind,
            first=time,
            last=time,
            value=float(values[place]),
            expected=float(expected[place]),
            score=round(float(residuals[place] / sigma), 1),
        )
        for place, time in zip(places, times, strict=True)
    ]


def _same_weekday_median(values: Floats) -> Floats:
    side = 7 * WEEKS_AROUND
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, side, constant_values=np.nan), 2 * side + 1)[
        :, ::7
    ]
    known = ~np.isnan(windows).all(axis=1)
    median = np.full(len(values), np.nan)
    median[known] = np.nanmedian(windows[known], axis=1)
    return median
