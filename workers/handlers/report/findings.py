"""The headline findings: what a reader should know who reads nothing else, as plain sentences."""

from collections import Counter

from workers.handlers.report.analysis import Analysis
from workers.handlers.report.anomalies import Anomaly
from workers.handlers.report.columns import Kind
from workers.handlers.report.wording import counted, moment, number, percent

MOST_STRIKING = 3
NOTABLE_NULLS = 0.01
MOST_COLUMNS = 4

NAMES = {  # of one anomaly, and of several
    "spike": ("spike", "spikes"),
    "jump": ("jump", "jumps"),
    "flat line": ("flat line", "flat lines"),
    "rows": ("day of odd count", "days of odd count"),
    "level": ("day of odd level", "days of odd level"),
    "missing": ("day of missing values", "days of missing values"),
}


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
    column, value, expected = one["column"], number(one["value"]), number(one["expected"])
    time, day = moment(one["first"]), moment(one["first"], day_only=True)
    match one["kind"]:
        case "spike":
            text = f"{column} reads {value} on {time}; the readings around it are near {expected}."
        case "jump":
            text = f"{column} changes from {expected} to {value} in one step, on {time}."
        case "flat line":
            text = f"{column} stays at exactly {value} for {number(one['score'])} readings, from {time}."
        case "rows":
            text = f"{counted(int(one['value']), 'event')} on {day}, where {expected} are usual for that weekday."
        case "missing":
            share, usual = percent(one["value"], 1), percent(one["expected"], 1)
            text = f"{column} is missing in {share} of the rows of {day}; {usual} is usual."
        case _:
            text = f"the median {column} is {value} on {day}, where {expected} is usual for that weekday."
    return f"{one['series']}: {text}"


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
    lost = f"{counted(missing, 'row')} of {expected:,} are missing ({percent(missing, expected)})"
    where = f"{counted(longest['missing'], 'row')} in {longest['series']}, from {moment(longest['first'])}"
    return [f"{lost}, in {counted(len(analysis.gaps), 'gap')}; the longest is {where}."]


def _missing_values(analysis: Analysis) -> list[str]:
    rows = analysis.source_rows
    notable = [one for one in analysis.profiles if one["nulls"] >= NOTABLE_NULLS * rows]
    if not notable:
        return []
    notable.sort(key=lambda one: -one["nulls"])
    listed = ", ".join(f"{one['name']} ({percent(one['nulls'], rows)})" for one in notable[:MOST_COLUMNS])
    more = f" and {counted(len(notable) - MOST_COLUMNS, 'more column')}" if len(notable) > MOST_COLUMNS else ""
    return [f"Values are often missing in {listed}{more}."]


def _anomalies(analysis: Analysis) -> list[str]:
    if not analysis.anomalies:
        return ["No anomaly was found."]
    counts = Counter(one["kind"] for one in analysis.anomalies)
    parts = ", ".join(f"{count} {NAMES[kind][count != 1]}" for kind, count in sorted(counts.items()))
    total = len(analysis.anomalies)
    return [f"In all {total:,} {'anomaly' if total == 1 else 'anomalies'}: {parts}."]
