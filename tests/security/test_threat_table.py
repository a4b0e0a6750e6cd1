"""docs/security.md names the test that holds each threat's guard: the tests are there, under these very names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


def rows(mark: str) -> list[list[str]]:
    """Return the cells of each row of the table behind a mark."""
    table = (ROOT / "docs" / "security.md").read_text().split(f"<!-- {mark} -->")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


THREATS, GUARDS = rows("threat table"), rows("guards")


def test_there_is_a_table() -> None:
    assert len(THREATS) > 30
    assert all(len(row) == 4 and row[1] and row[2] for row in THREATS)
    assert [int(row[0]) for row in THREATS] == [*range(1, len(THREATS) + 1)]


@pytest.mark.parametrize("row", THREATS, ids=[row[1][:60] for row in THREATS])
def test_each_threat_is_held_by_tests_that_are_there(row: list[str]) -> None:
    _require_tests(row[3])


def test_each_threats_guards_are_listed_with_where_they_are() -> None:
    assert {row[0] for row in GUARDS} == {row[0] for row in THREATS}
    for row in GUARDS:
        _, guard, where, held_by, _ = row
        assert guard
        assert (ROOT / where.strip("`")).is_file(), where
        _require_tests(held_by)


def _require_tests(cell: str) -> None:
    named = NAMED.findall(cell)
    assert named, "this row names no test"
    for file, test in named:
        text = (ROOT / file).read_text()
        assert not test or re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{file}::{test}"
