"""The headline findings: what a reader should know who reads nothing else, as plain sentences."""

from itertools import groupby

from workers.handlers.report.analysis import Analysis
from workers.handlers.report.anomalies import Anomaly
from workers.handlers.report.columns import Kind
from workers.handlers.report.wording import counted, moment, number, percent

MOST_STRIKING = 3
NOTABLE_NULLS = 0.01


def findings(analysis: Analysis) -> list[str]:
    """Return the findings, the most general first; plain text, not yet escaped."""
    return [
        *_extent(analysis),
        *_completeness(analysis),
        *_missing_values(analysis),
        *(describe(one) for one in most_striking(analysis.anomalies)),
        *_anomalies(analysis),
    ]


def most_striking(anomalies: list[Anomaly], count: int = MOST_STRIKING) -> list[Anomaly]:
    """Return the anomalies of the highest scores, one of each kind and day (a storm is one finding, not nine)."""
    ranked = sorted(anomalies, key=lambda one: (one["kind"] == "flat line", -one["score"]))
    chosen: dict[tuple[str, str], Anomaly] = {}
    for one in ranked:
        chosen.setdefault((one["kind"], one["first"][:10]), one)
    return list(chosen.values())[:count]


def describe(one: Anomaly) -> str:
    """Say in a sentence what is odd about an anomaly."""
    series, column, value, expected = one["series"], one["column"], number(one["value"]), number(one["expected"])
    day = moment(one["first"], day_only=True)
    match one["kind"]:
        case "spike":
            return f"{series}: {column} reads {value} on {moment(one['first'])}; the readings around it are near {expected}."
        case "jump":
            return f"{series}: {column} changes from {expected} to {value} in one step, on {moment(one['first'])}."
        case "flat line":
            return f"{series}: {column} stays at exactly {value} for {number(one['score'])} readings, from {moment(one['first'])}."
        case "rows":
            return f"{series}: {counted(int(one['value']), 'event')} on {day}, where {expected} are usual for that weekday."
        case "missing":
            usual = percent(one["expected"], 1)
            return f"{series}: {column} is missing in {percent(one['value'], 1)} of the rows of {day}; {usual} is usual."
        case _:
            return f"{series}: the median {column} is {value} on {day}, where {expected} is usual for that weekday."


def _extent(analysis: Analysis) -> list[str]:
    time = next(one for one in analysis.profiles if one["kind"] == Kind.TIME)
    first, last = (moment(str(time[edge]), day_only=True) for edge in ("min", "max"))
    sentences = [
        f"{counted(analysis.source_rows, 'row')} in {counted(len(analysis.series), 'series')}, from {first} to {last}."
    ]
    if time["nulls"]:
        sentences.append(f"{counted(time['nulls'], 'row')} without a readable time stand apart from all that follows.")
    if repeated := analysis.source_rows - analysis.rows.height:
        sentences.append(f"{counted(repeated, 'row')} repeat another in every cell; the cleaned data leave them out.")
    return sentences


def _completeness(analysis: Analysis) -> list[str]:
    if not analysis.is_regular:
        return ["The rows are events: they come when they come, so no gaps are judged."]
    missing = sum(one["missing"] for one in analysis.coverage)
    expected = sum(one["expected"] for one in analysis.coverage)
    if not missing:
        return ["No series has a gap."]
    longest = max(analysis.gaps, key=lambda gap: gap["missing"])
    return [
        f"{counted(missing, 'row')} of {expected:,} are missing ({percent(missing, expected)}), in "
        f"{counted(len(analysis.gaps), 'gap')}; the longest is {counted(longest['missing'], 'row')} in "
        f"{longest['series']}, from {moment(longest['first'])}."
    ]


def _missing_values(analysis: Analysis) -> list[str]:
    rows = analysis.source_rows
    notable = [one for one in analysis.profiles if one["nulls"] >= NOTABLE_NULLS * rows]
    if not notable:
        return []
    notable.sort(key=lambda one: -one["nulls"])
    listed = ", ".join(f"{one['name']} ({percent(one['nulls'], rows)})" for one in notable[:4])
    more = f" and {counted(len(notable) - 4, 'more column')}" if len(notable) > 4 else ""
    return [f"Values are often missing in {listed}{more}."]


def _anomalies(analysis: Analysis) -> list[str]:
    if not analysis.anomalies:
        return ["No anomaly was found."]
    kinds = groupby(sorted(one["kind"] for one in analysis.anomalies))
    names = {"rows": "day of odd count", "level": "day of odd level", "missing": "day of missing values"}
    plurals = {"rows": "days of odd count", "level": "days of odd level", "missing": "days of missing values"}
    parts = []
    for kind, members in kinds:
        count = len(list(members))
        parts.append(f"{count} {names.get(kind, kind) if count == 1 else plurals.get(kind, kind + 's')}")
    return [f"In all {counted(len(analysis.anomalies), 'anomaly').replace('anomalys', 'anomalies')}: {', '.join(parts)}."]
