"""Processes are ended by what they are, not by a number that another may have by now."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.processes import Identity, Process
from stack.records import Records, SupervisorLock

FOREVER = ["sleep", "1000"]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Process]:
    process = Process(FOREVER, log=tmp_path / "log", die_with_parent=True)
    yield process
    process.kill()


def identity_of(process: Process) -> Identity:
    identity = Identity.of(process.pid)
    assert identity is not None
    return identity


def test_a_process_that_only_has_the_pid_is_left_alone(child: Process) -> None:
    real = identity_of(child)
    for other in (dataclasses.replace(real, started=real.started - 1), dataclasses.replace(real, boot="another")):
        assert not other.is_alive
        other.end(patience=1)
    assert child.is_running


def test_ending_reaches_whom_a_dead_process_has_left_behind(tmp_path: Path) -> None:
    """As nginx's workers are when their master is killed."""
    note = tmp_path / "pid"
    process = Process(["sh", "-c", f"sleep 1000 & echo $! > {note}; exec sleep 1000"], log=tmp_path / "log")
    while not note.exists() or not note.read_text().strip():
        assert process.is_running
    leader, left = identity_of(process), Identity.of(int(note.read_text()))
    assert left is not None
    process._child.kill()
    process._child.wait()
    assert left.is_alive
    leader.end(patience=1)
    assert not left.is_alive


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], log=tmp_path / "log")
    while "ready" not in (tmp_path / "log").read_text():
        assert process.is_running
    process.end(patience=0.3)
    assert not process.is_running


def test_a_program_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no-such-program cannot be started"):
        Process(["no-such-program"], log=tmp_path / "log")


def test_records_of_a_copied_directory_are_nobodys(tmp_path: Path, child: Process) -> None:
    """Who copies a clone while its stack runs must not stop the original with `make down` in the copy."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    copy.mkdir()
    Records(original).write({"redis": child.pid})
    (copy / "processes.json").write_bytes((original / "processes.json").read_bytes())
    assert Records(copy).end_leftovers() == []
    assert child.is_running
    assert Records(original).end_leftovers(patience=1) == ["redis"]
    assert not child.is_running


def test_the_lock_has_one_holder_who_says_who_it_is(tmp_path: Path) -> None:
    first, second = SupervisorLock(tmp_path), SupervisorLock(tmp_path)
    assert second.holder() is None
    assert first.take()
    first.sign()
    assert not second.take()
    holder = second.holder()
    assert holder is not None
    assert holder.is_alive
    first.release()
    assert second.take()
    second.release()
