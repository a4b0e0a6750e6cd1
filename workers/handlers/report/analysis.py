"""All that a report computes, step by step: profiles, gaps, anomalies."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from app.settings import Dataset
from workers.handlers.datasets import OpenedDataset
from workers.handlers.report.anomalies import Anomaly, Search, find_anomalies
from workers.handlers.report.columns import Kind
from workers.handlers.report.gaps import Coverage, Gap, find_gaps
from workers.handlers.report.profiling import ColumnProfile, profile_column
from workers.handlers.report.steps import Steps
from workers.handlers.report.unusual_days import daily, find_unusual_days

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Analysis:
    """A dataset and what was found in it."""

    dataset: Dataset
    rows: pl.DataFrame
    """Cleaned: without rows that repeat another in every cell, by series and time."""
    source_rows: int
    fingerprint: str
    profiles: list[ColumnProfile]
    """Of the source's columns, in their order."""
    coverage: list[Coverage]
    """One for each series; empty when the dataset is of events."""
    anomalies: list[Anomaly]
    skipped: dict[str, str]
    """Measures that were not searched in any series, and why."""

    @property
    def is_regular(self) -> bool:
        """Whether rows are due at an interval."""
        return self.dataset.interval_seconds is not None

    @property
    def series(self) -> list[str]:
        """The names of the series, in order."""
        return sorted(self.rows[self.dataset.series_column].unique())

    @property
    def measures(self) -> list[str]:
        """The names of the measures, in the source's order."""
        return measures_of(self.profiles)

    @property
    def gaps(self) -> list[Gap]:
        """All gaps, by series and time."""
        return [gap for one in self.coverage for gap in one["gaps"]]

    def rows_of(self, series: str) -> pl.DataFrame:
        """Return a series' rows that have a time, by time."""
        return _rows_of(self.rows, self.dataset, series)


def measures_of(profiles: list[ColumnProfile]) -> list[str]:
    """Return the names of the measures."""
    return [profile["name"] for profile in profiles if profile["kind"] == Kind.MEASURE]


def analyse(opened: OpenedDataset, dataset: Dataset, steps: Steps, report: Report) -> Analysis:
    """Read the whole dataset into memory and analyse it.

    Args:
        opened: The dataset in the workspace.
        dataset: What the configuration says of it.
        steps: Does each step once.
        report: Is told the share of cells looked at, 0 to 1, and what comes next.
    """
    report(0.0, "sorting")
    source = opened.scan().collect()
    names = {"time_column": dataset.time_column, "series_column": dataset.series_column}
    rows = source.unique(maintain_order=True).sort(dataset.series_column, dataset.time_column, maintain_order=True)
    series = sorted(rows[dataset.series_column].unique())

    profiles: list[ColumnProfile] = []
    for number, column in enumerate(source.columns):
        report(0.3 * number / source.width, f"profiling column {column}")
        profiles.append(steps.do(f"profile {number}", lambda c=column: profile_column(source[c], **names)))  # type: ignore[misc]
    steps.commit()
    measures = measures_of(profiles)

    coverage: list[Coverage] = []
    searches: dict[str, list[Search]] = {}
    done = 0
    for number, name in enumerate(series):
        own = _rows_of(rows, dataset, name)
        report(0.3 + 0.7 * done / rows.height, f"looking for gaps and anomalies in {name}")
        if own.is_empty():
            continue
        if dataset.interval_seconds is None:
            days = daily(own, measures, time_column=dataset.time_column)
            for column in [None, *measures]:
                search = steps.do(
                    f"days {number} {column}",
                    lambda d=days, s=name, c=column: find_unusual_days(d, series=s, column=c),  # type: ignore[misc]
                )
                searches.setdefault(column or "rows", []).append(search)
        else:
            interval = timedelta(seconds=dataset.interval_seconds)
            times = own[dataset.time_column]
            coverage.append(
                steps.do(f"gaps {number}", lambda t=times, s=name: find_gaps(t, series=s, interval=interval))  # type: ignore[misc]
            )
            own = own.unique(dataset.time_column, keep="first", maintain_order=True)
            for place, column in enumerate(measures):
                readings = own.select(time=dataset.time_column, value=column)
                search = steps.do(
                    f"anomalies {number} {column}",
                    lambda r=readings, s=name, c=column: find_anomalies(r, series=s, column=c, interval=interval),  # type: ignore[misc]
                )
                searches.setdefault(column, []).append(search)
                report(0.3 + 0.7 * (done + own.height * (place + 1) / len(measures)) / rows.height, f"searched {column} in {name}")
        done += own.height
    steps.commit()
    return Analysis(
        dataset=dataset,
        rows=rows,
        source_rows=source.height,
        fingerprint=opened.fingerprint,
        profiles=profiles,
        coverage=coverage,
        anomalies=[one for found in searches.values() for search in found for one in search["anomalies"]],
        skipped={
            column: str(found[0]["skipped"])
            for column, found in searches.items()
            if all(search["skipped"] for search in found)
        },
    )


def _rows_of(rows: pl.DataFrame, dataset: Dataset, series: str) -> pl.DataFrame:
    own = (pl.col(dataset.series_column) == series) & pl.col(dataset.time_column).is_not_null()
    return rows.filter(own)
