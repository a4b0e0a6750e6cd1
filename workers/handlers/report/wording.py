"""How numbers and times are written for a reader."""

from datetime import datetime

LARGE = 1000
SMALL = 0.001


def number(value: float | str | None) -> str:
    """Write a quantity with five significant digits, or a whole one in full; thousands are set apart."""
    if value is None:
        return "–"
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
    if 0 < share < 0.01:
        return "< 0.01 %"
    if 99.99 < share < 100:
        return "> 99.99 %"
    return f"{share:.2f} %" if share < 1 or 99 < share < 100 else f"{share:.1f} %" if share < 100 else "100 %"


def moment(text: str, *, day_only: bool = False) -> str:
    """Write an RFC 3339 time for reading: 12 Feb 2013, 08:00."""
    time = datetime.fromisoformat(text)
    day = f"{time.day} {time:%b %Y}"
    return day if day_only else f"{day}, {time:%H:%M}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: 1 gap, 2 gaps, 2 series."""
    return f"{count:,} {noun}" + ("" if count == 1 or noun.endswith("s") else "s")
