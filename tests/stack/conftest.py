"""Whole stacks as `make up` starts them, and their end whatever a test did."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.records import Records
from tests.stack.stacks import Stack
from tests.support.leaks import leaks, told_by_arguments


def end(stack: Stack) -> None:
    """Leave nothing behind, whatever the test did; no log and no command line of it may have told a secret."""
    run = stack.run_directory
    files = (run / name for name in ("secrets.json", "redis/passwords.json", "rabbitmq/passwords.json"))
    secrets = [secret for file in files if file.exists() for secret in json.loads(file.read_text()).values()]
    told = told_by_arguments((one.pid for one in stack.processes().values()), secrets) if run.exists() else []
    try:
        done = stack.do("down")
        assert done.returncode == 0, done.stderr
    except (StackError, subprocess.SubprocessError):
        Records(run).end_leftovers(patience=1)
        raise
    assert not told, f"a secret in the arguments of {told}"
    assert not (found := leaks(run.rglob("*.log"), secrets)), f"a secret in {found}"


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
