"""How numbers and times are written for a reader."""

from datetime import datetime

LARGE = 1000
SMALL = 0.001
LEAST_PERCENT = 0.01
NONE = "\N{EN DASH}"  # stands in an empty cell
NO_BREAK = "\N{NO-BREAK SPACE}"


def number(value: float | str | None) -> str:
    """Write a quantity with five significant digits, or a whole one in full; thousands are set apart."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if float(value).is_integer() or abs(value) >= LARGE:
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    if abs(value) < SMALL:
        return f"{value:.2g}"
    return f"{value:.4g}"


def percent(part: float, whole: float) -> str:
    """Write a share; never "0 %" or "100 %" for one that is not."""
    share = 100 * part / whole if whole else 0.0
    if share in (0.0, 100.0):
        text = f"{share:.0f}"
    elif share < LEAST_PERCENT:
        text = f"< {LEAST_PERCENT}"
    elif share > 100 - LEAST_PERCENT:
        text = f"> {100 - LEAST_PERCENT}"
    else:
        text = f"{share:.2f}" if share < 1 or share > 99 else f"{share:.1f}"
    return f"{text}{NO_BREAK}%"


def moment(text: str, *, day_only: bool = False) -> str:
    """Write an RFC 3339 time for reading: 12 Feb 2013, 08:00."""
    time = datetime.fromisoformat(text)
    day = f"{time.day} {time:%b %Y}"
    return day if day_only else f"{day}, {time:%H:%M}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: 1 gap, 2 gaps, 2 series."""
    return f"{count:,} {noun}" + ("" if count == 1 or noun.endswith("s") else "s")
