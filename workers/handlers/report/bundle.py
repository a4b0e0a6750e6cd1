"""The files of a report and the zip that carries them; the same input gives the same bytes."""

import csv
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from workers.handlers.report.anomalies import Anomaly
from workers.handlers.report.drawing import Chart
from workers.handlers.report.gaps import Gap

EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip entry: a date of ours would make equal reports differ
PACKED = {".png", ".parquet"}  # compressed already
BLOCK_BYTES = 1 << 20


def write_bundle(
    folder: Path, *, page: str, charts: Iterable[Chart], rows: pl.DataFrame, gaps: list[Gap], anomalies: list[Anomaly]
) -> Path:
    """Write the report's files into `folder` and zip them.

    Returns:
        The zip, in `folder`: report.html, charts/*.png, data.parquet, gaps.csv, anomalies.csv.
    """
    (folder / "charts").mkdir()
    (folder / "report.html").write_text(page, encoding="utf-8")
    for chart in charts:
        (folder / "charts" / f"{chart.name}.png").write_bytes(chart.png)
    rows.write_parquet(folder / "data.parquet")
    _write_csv(folder / "gaps.csv", list(Gap.__annotations__), gaps)
    _write_csv(folder / "anomalies.csv", list(Anomaly.__annotations__), anomalies)

    names = ["report.html", *sorted(f"charts/{chart.name}.png" for chart in charts)]
    path = folder / "report.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        for name in [*names, "data.parquet", "gaps.csv", "anomalies.csv"]:
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type = zipfile.ZIP_STORED if Path(name).suffix in PACKED else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as plain, bundle.open(entry, "w", force_zip64=True) as packed:
                while block := plain.read(BLOCK_BYTES):
                    packed.write(block)
    return path


def _write_csv(path: Path, names: list[str], lines: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: _safe(value) for name, value in line.items()} for line in lines)


def _safe(value: Any) -> Any:
    """Keep a spreadsheet from running a text that begins like a formula (OWASP, "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
