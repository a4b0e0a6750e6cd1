"""The method, in the words of the report; the figures are those of the code."""

from workers.handlers.report.anomalies import FLAT_READINGS, JUMP_SIGMAS, MAD_TO_SIGMA, SPIKE_SIGMAS, WINDOW_SIDE
from workers.handlers.report.unusual_days import SIGMAS, WEEKS_AROUND

PREFACE = (
    "An anomaly is worth a look; it need not be an error. The score says how many robust standard deviations a value "
    "lies from what its surroundings lead one to expect (for a flat line: how many readings it lasts)."
)

KINDS = {
    "spike": "Spikes",
    "jump": "Jumps",
    "flat line": "Flat lines",
    "rows": "Odd counts",
    "level": "Odd levels",
    "missing": "Missing values",
}

REGULAR = (
    (
        "Gaps: two neighbouring rows of a series at least one and a half intervals apart enclose one. Before a series' "
        "first row and after its last nothing counts as missing."
    ),
    (
        f"Spikes: a reading further than {SPIKE_SIGMAS:g} sigma from the median of the {2 * WINDOW_SIDE + 1} readings "
        f"around it. Sigma is {MAD_TO_SIGMA} times the median absolute deviation (MAD) of that window, or of the whole "
        "series where that is larger. This is the Hampel identifier (Davies and Gather 1993)."
    ),
    (
        f"Jumps: a change from one reading to the next beyond {JUMP_SIGMAS:g} sigma of all such changes of the series, "
        "unless a spike explains it."
    ),
    f"Flat lines: {FLAT_READINGS} or more equal readings on end, other than the measure's lowest or highest value.",
)

EVENTS = (
    (
        "Unusual days: a UTC day's number of rows, the median of each measure and its share of missing values are "
        f"compared with the median of the same weekday in the {WEEKS_AROUND} weeks before and after. Beyond "
        f"{SIGMAS:g} sigma a day is unusual; sigma is {MAD_TO_SIGMA} times the median absolute deviation (MAD) of the "
        "series. The first and the last day are not judged, since the data begin and end inside them."
    ),
)

GENERAL = (
    (
        "The MAD rather than the standard deviation is used because wild readings, the very thing that is looked for, "
        "hardly move it (Rousseeuw and Croux 1993)."
    ),
    (
        "Only measures are searched and drawn: numbers that are no calendar fields, clock times, bearings or labels, "
        "as their names and values tell. Empty cells and NA count as missing."
    ),
)

FILES = (
    "data.parquet: the cleaned data, with types, by series and time, without rows that repeat another in every cell.",
    "gaps.csv and anomalies.csv: the complete lists.",
    "charts: every chart as PNG.",
)
