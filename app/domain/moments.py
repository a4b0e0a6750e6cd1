"""Moments and spans as the whole milliseconds in which stores and messages keep them."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime.fromtimestamp(0, tz=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds(moment: datetime) -> int:
    """Return a moment as milliseconds since the epoch; what is finer is cut off.

    In whole numbers: `timestamp() * 1000` is a float, and lands below the millisecond for one moment in seven.
    """
    return (moment - EPOCH) // MILLISECOND


def moment(milliseconds: int) -> datetime:
    """Return what `milliseconds` was made of."""
    return EPOCH + milliseconds * MILLISECOND


def span_milliseconds(span: timedelta) -> int:
    """Return a span in milliseconds; what is finer is cut off."""
    return span // MILLISECOND
