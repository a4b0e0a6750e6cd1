"""Anomalies of a measure in a regular series: spikes, jumps and flat lines.

All three rest on the median and on the MAD, the median absolute deviation, which a few wild readings cannot move.
1.4826 times the MAD estimates a standard deviation where the readings are normal (P. J. Rousseeuw, C. Croux,
"Alternatives to the Median Absolute Deviation", J. Am. Stat. Assoc. 88, 1993). An anomaly is a reading worth a look,
not an error.
"""

from datetime import timedelta
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from workers.handlers.report.profiling import written_times

MAD_TO_SIGMA = 1.4826
WINDOW_SIDE = 12
SPIKE_SIGMAS = 6.0
JUMP_SIGMAS = 10.0
FLAT_READINGS = 12
DOMINANT_SHARE = 0.5
FEWEST_READINGS = 100
LARGEST_GRID = 20_000_000  # places, 160 MB
BLOCK_PLACES = 50_000

Floats = npt.NDArray[np.float64]


class Anomaly(TypedDict):
    """One reading, or a run of equal ones; times are RFC 3339."""

    series: str
    column: str
    kind: str
    """spike, jump, flat line; in events also: rows, level, missing."""
    first: str
    last: str
    value: float
    expected: float
    score: float
    """In robust standard deviations; of a flat line, in readings."""


class Search(TypedDict):
    """What the search of one measure in one series found, or why it was not searched."""

    anomalies: list[Anomaly]
    skipped: str | None


def find_anomalies(readings: pl.DataFrame, *, series: str, column: str, interval: timedelta) -> Search:
    """Search one measure of one series.

    * spike: further than 6 sigma from the median of the 25 readings around it, sigma being the larger of that window's
      and of the whole series' (the "Hampel identifier": L. Davies, U. Gather, "The Identification of Multiple
      Outliers", J. Am. Stat. Assoc. 88, 1993);
    * jump: a change from one reading to the next beyond 10 sigma of all such changes, unless a spike explains it;
    * flat line: 12 equal readings or more on end, away from the measure's own lowest and highest (rain stays 0).

    A measure of which half the readings are one value (rain, mostly 0) has no spread to judge by and is not searched.

    Args:
        readings: Columns `time` (Datetime, UTC, ascending, distinct) and `value` (numeric, may be null).
        series: Its name, for the result.
        column: The measure's name, for the result.
        interval: How often a reading is due; rows off this grid go to the nearest place on it.
    """
    start = readings["time"][0]
    if (readings["time"][-1] - start) / interval > LARGEST_GRID:
        return Search(anomalies=[], skipped="too long for its interval")
    values = _on_grid(readings, interval)
    valid = values[~np.isnan(values)]
    if len(valid) < FEWEST_READINGS:
        return Search(anomalies=[], skipped=f"fewer than {FEWEST_READINGS} readings")
    if np.unique(valid, return_counts=True)[1].max() >= DOMINANT_SHARE * len(valid):
        return Search(anomalies=[], skipped="half its readings are one value")

    found: list[tuple[str, int, int, float, float, float]] = []  # kind, first and last place, value, expected, score
    median, sigma = _surroundings(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.abs(values - median) / sigma
    spikes = np.nonzero(scores > SPIKE_SIGMAS)[0].tolist()
    found += [("spike", i, i, values[i], median[i], scores[i]) for i in spikes]

    changes = np.diff(values)
    known = np.abs(changes[~np.isnan(changes)])  # none, where every other reading is missing
    change_sigma = MAD_TO_SIGMA * float(np.median(known)) if len(known) else 0.0
    if change_sigma > 0:
        explained = {i for spike in spikes for i in (spike - 1, spike)}
        jumps = (i for i in np.nonzero(np.abs(changes) > JUMP_SIGMAS * change_sigma)[0].tolist() if i not in explained)
        found += [("jump", i + 1, i + 1, values[i + 1], values[i], abs(changes[i]) / change_sigma) for i in jumps]

    found += [
        ("flat line", first, last, values[first], values[first], last - first + 1)
        for first, last in _runs(values)
        if last - first + 1 >= FLAT_READINGS and valid.min() < values[first] < valid.max()
    ]
    found.sort(key=lambda one: (one[1], one[0]))
    places = pl.Series([start + int(i) * interval for one in found for i in one[1:3]], dtype=pl.Datetime("us", "UTC"))
    times = written_times(places)
    return Search(
        anomalies=[
            Anomaly(
                series=series,
                column=column,
                kind=kind,
                first=times[2 * n],
                last=times[2 * n + 1],
                value=float(value),
                expected=float(expected),
                score=round(float(score), 1),
            )
            for n, (kind, _, _, value, expected, score) in enumerate(found)
        ],
        skipped=None,
    )


def _on_grid(readings: pl.DataFrame, interval: timedelta) -> Floats:
    """Return the readings as an array with a place for each due one, NaN where there is none."""
    places = ((readings["time"] - readings["time"][0]) / interval).round().cast(pl.Int64).to_numpy()
    values = np.full(places[-1] + 1, np.nan)
    values[places] = readings["value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values


def _surroundings(values: Floats) -> tuple[Floats, Floats]:
    """Return the median and the sigma of the window around each place; NaN where half the window is empty."""
    median = np.full(len(values), np.nan)
    spread = np.full(len(values), np.nan)
    padded = np.pad(values, WINDOW_SIDE, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * WINDOW_SIDE + 1)
    for start in range(0, len(values), BLOCK_PLACES):  # each place costs 25 floats while it is looked at
        block = windows[start : start + BLOCK_PLACES]
        full = np.count_nonzero(~np.isnan(block), axis=1) > WINDOW_SIDE
        if full.any():
            places = start + np.nonzero(full)[0]
            median[places] = np.nanmedian(block[full], axis=1)
            spread[places] = np.nanmedian(np.abs(block[full] - median[places, None]), axis=1)
    residuals = np.abs(values - median)
    known = residuals[~np.isnan(residuals)]
    # A calm day has a MAD near zero, and the least breeze would be a spike: the series' own spread is the floor.
    floor = float(np.median(known)) if len(known) else np.nan
    return median, MAD_TO_SIGMA * np.maximum(spread, floor)


def _runs(values: Floats) -> list[tuple[int, int]]:
    """Return first and last place of every run of equal readings; an empty place ends a run."""
    ends = np.nonzero(np.diff(values) != 0)[0]  # NaN differs from everything
    firsts = np.concatenate([[0], ends + 1])
    lasts = np.concatenate([ends, [len(values) - 1]])
    return [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]
