"""Windows of time and their aggregates, computed chunk by chunk and kept as one small Parquet file each.

An aggregate of the same chunk is the same to the bit on one machine: the rows of a window are always summed in the
order of time and source, however many threads read them.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

from workers.handlers.datasets import OpenedDataset
from workers.outcome import Fatal

CHUNK_ROWS = 20_000
START = "window_start"
ROWS = "rows"


class WindowsDiffer(Fatal):
    """Two passes over the same rows came to different windows; the machine is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one series: whole windows, from the first to the last window start, both included."""

    place: int
    series: str
    first: datetime
    last: datetime
    rows: int


class Windows:
    """The windows of a dataset. `chunks` is the plan: the same for the same data and width."""

    def __init__(
        self,
        opened: OpenedDataset,
        *,
        every: Literal["1h", "6h", "1d", "7d"],
        aggregate: Literal["mean", "min", "max", "sum"],
        folder: Path,
    ) -> None:
        """Plan the chunks: one pass over the times.

        Args:
            opened: The dataset; rows without a time belong to no window.
            every: The width of a window; 7 days begin on a Monday.
            aggregate: Of each numeric column.
            folder: Made here, for the results of the chunks.
        """
        self._opened = opened
        self._window = pl.col(opened.time_column).dt.truncate(every.replace("7d", "1w"))
        taken = (opened.series_column, opened.time_column)
        schema = opened.scan().collect_schema()
        self._columns = [name for name, kind in schema.items() if kind.is_numeric() and name not in taken]
        # A sum of nothing is 0 to polars; here it is unknown.
        self._aggregates = [
            pl.when(pl.col(name).count() > 0).then(getattr(pl.col(name), aggregate)()).alias(_free(name, taken))
            for name in self._columns
        ]
        self._folder = folder
        folder.mkdir()
        self.chunks = self._plan()

    def aggregate(self, chunk: Chunk) -> None:
        """Aggregate one chunk, and keep the result; at most a chunk's rows are in memory.

        Raises:
            WindowsDiffer: An earlier call for this chunk came to another result.
        """
        opened = self._opened
        rows = (
            opened.scan()
            .filter(
                pl.col(opened.series_column) == chunk.series,
                self._window.is_between(chunk.first, chunk.last),
                # Truncation hides the time from the file's statistics; this bound lets whole row groups be skipped.
                pl.col(opened.time_column) >= chunk.first,
            )
            .select(opened.time_column, *self._columns)
            .collect()
            .sort(opened.time_column, maintain_order=True)
            .rechunk()
        )
        windows = (
            rows.group_by(self._window.alias(START), maintain_order=True)
            .agg(pl.len().cast(pl.Int64).alias(ROWS), *self._aggregates)
            .select(pl.lit(chunk.series).alias(opened.series_column), pl.all())
        )
        path = self._file(chunk)
        if path.exists():
            if not windows.equals(pl.read_parquet(path)):
                raise WindowsDiffer(f"two passes over {chunk.series} from {chunk.first} came to different windows")
        else:
            windows.write_parquet(path)

    def write(self, path: Path) -> Path:
        """Write all windows to one file, by series and time; chunks that have no result yet are aggregated first."""
        for chunk in self.chunks:
            if not self._file(chunk).exists():
                self.aggregate(chunk)
        pl.scan_parquet([self._file(chunk) for chunk in self.chunks]).sink_parquet(path)
        return path

    def _file(self, chunk: Chunk) -> Path:
        return self._folder / f"{chunk.place:06d}.parquet"

    def _plan(self) -> list[Chunk]:
        """Cut each series where about a chunk's rows are together, but never inside a window."""
        opened = self._opened
        counts = (
            opened.scan()
            .filter(pl.col(opened.time_column).is_not_null())
            .group_by(pl.col(opened.series_column).alias("series"), self._window.alias("window"))
            .agg(pl.len().cast(pl.Int64).alias("rows"))
            .sort("series", "window")
            .with_columns(chunk=((pl.col("rows").cum_sum() - 1) // CHUNK_ROWS).over("series"))
            .group_by("series", "chunk", maintain_order=True)
            .agg(pl.col("window").first().alias("first"), pl.col("window").last().alias("last"), pl.col("rows").sum())
            .collect(engine="streaming")
        )
        return [
            Chunk(place, series, first, last, rows)
            for place, (series, first, last, rows) in enumerate(
                counts.select("series", "first", "last", "rows").iter_rows()
            )
        ]


def _free(name: str, taken: tuple[str, ...]) -> str:
    """Keep a column of the data from bearing a name that the result needs."""
    while name in (START, ROWS, *taken):
        name += "_"
    return name
