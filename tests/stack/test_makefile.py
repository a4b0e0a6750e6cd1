"""`make help` is a list of all there is."""

import re
import subprocess

from stack.settings import REPOSITORY


def test_help_has_a_line_for_each_target() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)[0].split()
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    listed = dict(line.strip().removeprefix("make ").split(maxsplit=1) for line in done.stdout.splitlines())
    assert sorted(listed) == sorted(targets)
    assert {"run", "up", "down", "demo", "test", "lint", "format", "lock", "help"} <= set(listed)
