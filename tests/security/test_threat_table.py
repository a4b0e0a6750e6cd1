"""docs/security.md names the test that holds each threat's guard: the tests are there, under these very names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row of the threat table."""
    table = (ROOT / "docs" / "security.md").read_text().split("<!-- threat table -->")[1]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ROWS = rows()


def test_there_is_a_table() -> None:
    assert len(ROWS) > 30
    assert all(len(row) == 3 and row[0] and row[1] for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_each_threat_is_held_by_tests_that_are_there(row: list[str]) -> None:
    named = NAMED.findall(row[2])
    assert named, "this row names no test"
    for file, test in named:
        assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
