"""The report as one HTML page: its charts, its style and its tables in itself, no script, nothing to load.

There is no clock time in it, so that the same data give the same page, whichever attempt wrote it.
"""

from collections import Counter
from pathlib import Path
from string import Template
from uuid import UUID

from workers.handlers.report import method
from workers.handlers.report.analysis import Analysis
from workers.handlers.report.columns import Kind
from workers.handlers.report.drawing import Chart
from workers.handlers.report.findings import describe, findings, most_striking
from workers.handlers.report.html import element, listing, table
from workers.handlers.report.wording import NONE, counted, moment, number, percent

HERE = Path(__file__).parent
MOST_GAPS = 20
MOST_ANOMALIES = 20
OVERVIEW = {"coverage", "rows-per-day", "missing-values"}


def build_page(analysis: Analysis, charts: list[Chart], *, task_id: UUID) -> str:
    """Return the whole page.

    Args:
        analysis: What was found.
        charts: In the order in which they are shown.
        task_id: Named in the footer.
    """
    sections = [
        f'<section class="findings"><h2>What stands out</h2>{listing(findings(analysis))}</section>',
        _completeness(analysis, [chart for chart in charts if chart.name in OVERVIEW]),
        _anomalies(analysis),
        "<section><h2>The measures</h2>"
        + "".join(_figure(one) for one in charts if one.name not in OVERVIEW)
        + "</section>",
        _columns(analysis),
        _method(analysis),
    ]
    footer = f"Longhaul, task {task_id}. SHA-256 of the data: {analysis.fingerprint}. All times are UTC."
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=element("span", analysis.dataset.title).removeprefix("<span>").removesuffix("</span>"),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        tiles=_tiles(analysis),
        sections="\n".join(sections),
        footer=element("p", footer),
    )


def _tiles(analysis: Analysis) -> str:
    tiles = [("Rows", f"{analysis.source_rows:,}"), ("Series", f"{len(analysis.series):,}")]
    if analysis.is_regular:
        missing = sum(one["missing"] for one in analysis.coverage)
        expected = sum(one["expected"] for one in analysis.coverage)
        tiles += [("Complete", percent(expected - missing, expected)), ("Gaps", f"{len(analysis.gaps):,}")]
    else:
        tiles.append(("Columns", f"{len(analysis.profiles):,}"))
    tiles.append(("Anomalies", f"{len(analysis.anomalies):,}"))
    return (
        '<dl class="tiles">' + "".join(f"<div>{element('dt', a)}{element('dd', b)}</div>" for a, b in tiles) + "</dl>"
    )


def _figure(chart: Chart) -> str:
    return f'<figure><div class="chart">{chart.svg}</div>{element("figcaption", chart.caption)}</figure>'


def _completeness(analysis: Analysis, charts: list[Chart]) -> str:
    parts = ["<section><h2>How complete the data are</h2>"]
    if analysis.is_regular:
        heads = ["Series", "First row", "Last row", "Rows", "Missing", "Complete", "Gaps", "Repeated times"]
        rows = (
            [
                one["series"],
                moment(one["first"]),
                moment(one["last"]),
                f"{one['rows']:,}",
                f"{one['missing']:,}",
                percent(one["expected"] - one["missing"], one["expected"]),
                f"{len(one['gaps']):,}",
                f"{one['repeated']:,}",
            ]
            for one in analysis.coverage
        )
        parts.append(table(heads, rows, numeric=frozenset(range(3, 8)), label="Completeness of each series"))
    parts += [_figure(chart) for chart in charts]
    if analysis.gaps:
        longest = sorted(analysis.gaps, key=lambda gap: (-gap["missing"], gap["series"], gap["first"]))[:MOST_GAPS]
        parts.append("<h3>The gaps, the longest first</h3>")
        heads = ["Series", "First missing row", "Last missing row", "Missing rows"]
        cells = ([one["series"], moment(one["first"]), moment(one["last"]), f"{one['missing']:,}"] for one in longest)
        parts += [
            table(heads, cells, numeric=frozenset({3}), label="Gaps"),
            _rest(len(longest), len(analysis.gaps), "gaps.csv"),
        ]
    return "".join(parts) + "</section>"


def _anomalies(analysis: Analysis) -> str:
    parts = ["<section><h2>Anomalies</h2>", element("p", method.PREFACE)]
    if analysis.anomalies:
        counts = Counter((one["column"], one["kind"]) for one in analysis.anomalies)
        kinds = sorted({kind for _, kind in counts})
        names = dict.fromkeys(one["column"] for one in analysis.anomalies)
        body = ([name, *(str(counts[name, kind] or NONE) for kind in kinds)] for name in names)
        parts.append(
            table(
                ["Measure", *(method.KINDS[kind] for kind in kinds)],
                body,
                numeric=frozenset(range(1, len(kinds) + 1)),
                label="Anomalies by measure",
            )
        )
        strongest = most_striking(analysis.anomalies, MOST_ANOMALIES)
        parts.append("<h3>The most striking of each kind and day</h3>")
        lines = ([describe(one), number(one["score"])] for one in strongest)
        parts.append(
            table(["What", "Score"], lines, numeric=frozenset({1}), prose=True, label="The most striking anomalies")
        )
        parts.append(_rest(len(strongest), len(analysis.anomalies), "anomalies.csv"))
    if analysis.skipped:
        reasons = "; ".join(f"{column} ({reason})" for column, reason in analysis.skipped.items())
        parts.append(element("p", f"Not searched: {reasons}.", class_="note"))
    return "".join(parts) + "</section>"


def _columns(analysis: Analysis) -> str:
    heads = [
        "Column",
        "What it is",
        "Type",
        "Missing",
        "Different",
        "Lowest",
        "5 %",
        "Median",
        "95 %",
        "Highest",
        "Mean",
    ]
    rows = []
    for one in analysis.profiles:
        low, median, high = (
            (one["quantiles"][place] for place in (0, 2, 4)) if "quantiles" in one else (None, None, None)
        )
        edges = [one.get("min"), one.get("max")]
        if one["kind"] == Kind.TIME:
            edges = [moment(str(edge)) if edge else None for edge in edges]
        rows.append(
            [
                one["name"],
                one["kind"],
                one["type"],
                percent(one["nulls"], analysis.source_rows) if one["nulls"] else NONE,
                f"{one['distinct']:,}",
                *(number(value) for value in (edges[0], low, median, high, edges[1], one.get("mean"))),
            ]
        )
    parts = ["<section><h2>The columns</h2>", table(heads, rows, numeric=frozenset(range(3, 11)), label="Columns")]
    common = [(one["name"], one["common"]) for one in analysis.profiles if one.get("common")]
    if common:
        parts.append("<h3>The most frequent words</h3>")
        lines = ([name, ", ".join(f"{value} ({count:,})" for value, count in counts)] for name, counts in common)
        parts.append(
            table(["Column", "Values and how often they occur"], lines, prose=True, label="The most frequent words")
        )
    return "".join(parts) + "</section>"


def _method(analysis: Analysis) -> str:
    texts = method.REGULAR if analysis.is_regular else method.EVENTS
    return "".join(
        [
            "<section><h2>How it was made</h2>",
            *(element("p", text) for text in (*texts, *method.GENERAL)),
            "<h3>Files beside this page</h3>",
            listing(method.FILES),
            "</section>",
        ]
    )


def _rest(shown: int, total: int, file: str) -> str:
    if shown == total:
        return ""
    return element("p", f"{counted(shown, 'line')} of {total:,}; all are in {file}.", class_="note")
