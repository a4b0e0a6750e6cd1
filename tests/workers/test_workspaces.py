"""The directories of attempts: gone with their engine, also when it was killed; never those of one that lives."""

import subprocess
import sys
from pathlib import Path

from workers.workspaces import PREFIX, open_workspaces, workspace

KILLED = """
import os, signal, sys
from pathlib import Path
from workers.workspaces import open_workspaces, workspace

with open_workspaces(Path(sys.argv[1])) as directory, workspace(directory) as path:
    (Path(path) / "file").write_text("left")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_files_of_a_killed_engine_are_removed_by_the_next_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    with open_workspaces(tmp_path) as living, workspace(living) as asked:
        used = Path(asked)
        (used / "file").write_text("in use")
        subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
        assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2
        with open_workspaces(tmp_path) as next_one:
            assert set(tmp_path.iterdir()) == {living, next_one}
            assert (used / "file").read_text() == "in use"
    assert list(tmp_path.iterdir()) == []


def test_what_only_has_such_a_name_is_left_alone(tmp_path: Path) -> None:
    """A file, and a link to a directory, of which nobody knows whose it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    with open_workspaces(tmp_path):
        pass
    assert (elsewhere / "file").exists()
    assert (tmp_path / f"{PREFIX}file").exists()
