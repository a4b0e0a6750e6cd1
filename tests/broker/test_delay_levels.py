"""A delay is made of fixed levels: how late, how early, and how many rounds a wait of any length takes."""

from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from app.broker.topology import DELAY_LEVELS, LATENESS, level_for

WAITS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=60))
SHORTEST = DELAY_LEVELS[0]


def rounds(wait: timedelta) -> list[timedelta]:
    """Return the levels that a message passes until its wait is over: what is left is waited for again."""
    passed = []
    while wait > timedelta(0):
        passed.append(level_for(wait))
        wait -= passed[-1]
    return passed


@given(WAITS)
@example(timedelta(0))
@example(timedelta(seconds=3))
@example(timedelta(seconds=15))
def test_a_wait_is_never_cut_short_and_exceeded_by_two_seconds_at_most(wait: timedelta) -> None:
    late = sum(rounds(wait), timedelta(0)) - wait
    assert timedelta(0) <= late <= LATENESS


@given(WAITS)
def test_a_single_round_is_a_level_and_hardly_longer_than_the_wait(wait: timedelta) -> None:
    level = level_for(wait)
    assert level in DELAY_LEVELS
    assert level <= max(wait + LATENESS, SHORTEST)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=1)))
def test_an_hour_takes_twenty_rounds_at_most(wait: timedelta) -> None:
    assert len(rounds(wait)) <= 20


@given(WAITS, WAITS)
def test_a_longer_wait_never_has_a_shorter_level(one: timedelta, other: timedelta) -> None:
    shorter, longer = sorted((one, other))
    assert level_for(shorter) <= level_for(longer)


@given(st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(0)))
def test_a_wait_that_is_over_takes_the_shortest_level(wait: timedelta) -> None:
    assert level_for(wait) == SHORTEST
