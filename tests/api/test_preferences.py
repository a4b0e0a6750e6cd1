"""Prefer (RFC 7240): lists and repeated lines are one list, the first of a name counts, and nonsense does no harm."""

import time

import pytest

from app.api.preferences import preferences, wait_seconds


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=5"], 5),
        (["WAIT = 5"], 5),
        (['wait="5"'], 5),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5, wait=9"], 5),
        (["wait=5", "wait=9"], 5),
        (["wait=x, wait=9"], None),
        (['foo="a, wait=9", wait=4; for=ever'], 4),
        (["return=minimal; wait=9"], None),
        ([",, ,wait=3"], 3),
        (['"bad", wait=3'], 3),
        (["wait=007"], 7),
        (["wait=51"], 50),
        (["wait=" + "9" * 400], 50),
        (["wait=0"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=+5"], None),
        (["wait=٣"], None),
        (["wait"], None),
        ([""], None),
        ([], None),
    ],
)
def test_how_long_a_caller_waits(lines: list[str], seconds: int | None) -> None:
    assert wait_seconds(lines, at_most=50) == seconds


def test_where_waiting_is_off_nobody_waits() -> None:
    assert wait_seconds(["wait=5"], at_most=0) is None


@pytest.mark.parametrize(
    "hostile", ["a" + ";     " * 5000 + "(", 'x="\\",' * 5000, "x=" + " " * 30_000 + "(", "," * 30_000, '"' * 30_000]
)
def test_a_hostile_header_takes_no_time(hostile: str) -> None:
    began = time.process_time()
    preferences([hostile, "wait=1"])
    assert time.process_time() - began < 1
