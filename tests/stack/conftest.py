"""Whole stacks as `make up` starts them, and their end whatever a test did."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.records import Records
from tests.stack.stacks import Stack


def end(stack: Stack) -> None:
    """Leave nothing behind, whatever the test did."""
    try:
        done = stack.do("down")
        assert done.returncode == 0, done.stderr
    except (StackError, subprocess.SubprocessError):
        Records(stack.run_directory).end_leftovers(patience=1)
        raise


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is not up."""
    named = Stack(tmp_path / "run")
    yield named
    end(named)


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is up; each test leaves it ready."""
    named = Stack(tmp_path_factory.mktemp("stack") / "run")
    named.up()
    yield named
    end(named)
