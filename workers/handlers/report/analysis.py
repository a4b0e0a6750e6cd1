"""All that a report computes, step by step: profiles, gaps, anomalies."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

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

PROFILED = 0.3  # the share of the work after which all columns are profiled


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
        report: Is told the share of the work done, 0 to 1, by the cells looked at, and what comes next.
    """
    report(0.0, "sorting")
    source = opened.scan().collect()
    rows = source.unique(maintain_order=True).sort(dataset.series_column, dataset.time_column, maintain_order=True)
    profiles = _profile(source, dataset, steps, report)
    measures = measures_of(profiles)

    coverage: list[Coverage] = []
    searches: dict[str, list[Search]] = {}
    done = 0
    for number, name in enumerate(sorted(rows[dataset.series_column].unique())):
        own = _rows_of(rows, dataset, name)
        if own.is_empty():
            continue
        report(PROFILED + (1 - PROFILED) * done / rows.height, f"looking for gaps and anomalies in {name}")
        of_series = _Series(rows=own, dataset=dataset, name=name, prefix=f"series {number}", steps=steps)
        if dataset.interval_seconds is None:
            found = of_series.unusual_days(measures)
        else:
            coverage.append(of_series.gaps(timedelta(seconds=dataset.interval_seconds)))
            found = of_series.anomalies(measures, timedelta(seconds=dataset.interval_seconds))
        for column, search in found:
            searches.setdefault(column, []).append(search)
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


def _profile(source: pl.DataFrame, dataset: Dataset, steps: Steps, report: Report) -> list[ColumnProfile]:
    names = {"time_column": dataset.time_column, "series_column": dataset.series_column}
    profiles = []
    for number, column in enumerate(source.iter_columns()):
        report(PROFILED * number / source.width, f"profiling column {column.name}")
        profiles.append(steps.do(f"profile {number}", partial(profile_column, column, **names)))
    steps.commit()
    return profiles


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """One series' steps. `prefix` names them in the checkpoint, where a name from the data might be a book."""

    rows: pl.DataFrame
    dataset: Dataset
    name: str
    prefix: str
    steps: Steps

    def gaps(self, interval: timedelta) -> Coverage:
        times = self.rows[self.dataset.time_column]
        coverage: Coverage = self.steps.do(
            f"{self.prefix} gaps", partial(find_gaps, times, series=self.name, interval=interval)
        )
        return coverage

    def anomalies(self, measures: list[str], interval: timedelta) -> Iterator[tuple[str, Search]]:
        distinct = self.rows.unique(self.dataset.time_column, keep="first", maintain_order=True)
        for number, column in enumerate(measures):
            readings = distinct.select(time=self.dataset.time_column, value=column)
            search = partial(find_anomalies, readings, series=self.name, column=column, interval=interval)
            yield column, self.steps.do(f"{self.prefix} measure {number}", search)

    def unusual_days(self, measures: list[str]) -> Iterator[tuple[str, Search]]:
        days = daily(self.rows, measures, time_column=self.dataset.time_column)
        yield (
            "rows",
            self.steps.do(f"{self.prefix} rows", partial(find_unusual_days, days, series=self.name, column=None)),
        )
        for number, column in enumerate(measures):
            search = partial(find_unusual_days, days, series=self.name, column=column)
            yield column, self.steps.do(f"{self.prefix} measure {number}", search)


def _rows_of(rows: pl.DataFrame, dataset: Dataset, series: str) -> pl.DataFrame:
    own = (pl.col(dataset.series_column) == series) & pl.col(dataset.time_column).is_not_null()
    return rows.filter(own)
