"""`deploy/local/setup`, with stand-ins for the tools that it calls: what it does once, and not again."""

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from run_uv import as_uv, pip_settings
from stack.settings import REPOSITORY

LOCAL = REPOSITORY / "deploy" / "local"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


class Machine:
    """A clone with a virtual environment whose python only notes down what it is asked to do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.notes = root / "notes"
        self.policy = root / "policy-rc.d"
        self.clone = root / "clone"
        self.bin.mkdir()
        (self.clone / "deploy").mkdir(parents=True)
        shutil.copytree(LOCAL, self.clone / "deploy" / "local")
        for name in ("requirements.lock", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, self.clone)
        self.notes.touch()

    def set_up(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(["bash", str(self.clone / "deploy" / "local" / "setup")], environment)

    def install(self, *packages: str) -> subprocess.CompletedProcess[str]:
        return self.run(["bash", str(LOCAL / "install-packages"), *packages], {})

    def run(self, command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        ours = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "NOTES": str(self.notes),
            "POLICY_RC_D": str(self.policy),
        }
        return subprocess.run(
            command, env={**ours, **environment}, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )

    def noted(self) -> list[str]:
        lines = self.notes.read_text().splitlines()
        self.notes.write_text("")
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    venv = made.clone / ".venv" / "bin"
    note = 'echo "$(basename "$0") $*" >>"$NOTES"'
    program(
        venv / "python", f'[ "$1" = -c ] || {note}; case "$*" in *${{FAIL_AT:-nothing}}*) echo no route; exit 3;; esac'
    )
    program(venv / "uv", "echo uv 0.0.0")
    return made


def test_the_first_run_installs_what_the_lock_says_and_the_second_does_nothing(machine: Machine) -> None:
    first = machine.set_up()
    assert first.returncode == 0, first.stderr
    noted = machine.noted()
    assert [line for line in noted if line.startswith("python -m pip install")], "uv, by pip"
    assert "python deploy/local/run_uv.py pip sync --require-hashes requirements.lock" in noted
    assert "python deploy/local/run_uv.py pip install --no-deps --no-build-isolation --editable ." in noted
    assert "installing what requirements.lock says" in first.stdout
    uv = (machine.clone / ".venv" / "uv.lock").read_text()
    assert uv.startswith("uv==")
    assert all(line.lstrip().startswith("--hash=sha256:") for line in uv.splitlines()[1:])

    second = machine.set_up()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert machine.noted() == []


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_of_what_is_asked_for_is_installed(machine: Machine, name: str) -> None:
    machine.set_up()
    machine.noted()
    with (machine.clone / name).open("a") as stream:
        stream.write("# changed\n")
    assert machine.set_up().returncode == 0
    assert "python deploy/local/run_uv.py pip sync --require-hashes requirements.lock" in machine.noted()


def test_a_step_that_fails_is_the_last_line_and_is_tried_again(machine: Machine) -> None:
    failed = machine.set_up(FAIL_AT="sync")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == ["no route", "set-up: installing what requirements.lock says failed"]
    machine.noted()
    assert machine.set_up().returncode == 0
    assert "python deploy/local/run_uv.py pip sync --require-hashes requirements.lock" in machine.noted()


# --- Debian packages


@pytest.fixture
def debian(machine: Machine) -> Machine:
    """Where `old` is installed already, and installing anything brings `new` and its service."""
    installed = machine.root / "installed"
    installed.write_text("ii  old\nrc  removed\n")
    services = machine.root / "services"
    services.mkdir()
    note = 'echo "$(basename "$0") $*" >>"$NOTES"'
    program(machine.bin / "dpkg-query", f"cat {installed}")
    program(
        machine.bin / "apt-get",
        f"""{note}
        [ -z "$FAIL_AT" ] || {{ echo "E: no $FAIL_AT"; exit 100; }}
        case "$*" in *install*)
            echo "policy says $("$POLICY_RC_D"; echo $?)" >>"$NOTES"
            echo "ii  new" >>{installed};;
        esac""",
    )
    program(
        machine.bin / "dpkg",
        'shift; for p; do echo "/lib/systemd/system/$p.service"; echo "/etc/init.d/$p"; echo "/usr/bin/$p"; done',
    )
    for tool in ("deb-systemd-helper", "systemctl", "update-rc.d"):
        program(machine.bin / tool, note)
    return machine


def test_nothing_is_started_while_packages_are_installed_and_nothing_new_stays_enabled(debian: Machine) -> None:
    done = debian.install("new")
    assert done.returncode == 0, done.stderr
    noted = debian.noted()
    assert "policy says 101" in noted
    for line in (
        "deb-systemd-helper disable new.service",
        "systemctl --quiet disable new.service",
        "update-rc.d new disable",
    ):
        assert line in noted
    assert not any("old" in line for line in noted), "what was there before keeps its services"
    assert not debian.policy.exists()


def test_a_policy_of_the_machines_own_is_put_back(debian: Machine) -> None:
    program(debian.policy, "exit 0  # the machine's own")
    before = debian.policy.read_text()
    assert debian.install("new").returncode == 0
    assert "policy says 101" in debian.noted()
    assert debian.policy.read_text() == before
    assert stat.S_IMODE(debian.policy.stat().st_mode) == 0o755


def test_a_failed_installation_is_one_last_line_and_leaves_no_policy(debian: Machine) -> None:
    done = debian.run(["bash", str(LOCAL / "install-packages"), "new"], {"FAIL_AT": "network"})
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["E: no network", "set-up: apt-get update failed"]
    assert not debian.policy.exists()


def test_a_policy_left_by_a_killed_installation_is_not_kept(debian: Machine) -> None:
    program(debian.policy, "# by Longhaul, for as long as its packages are installed\nexit 101")
    assert debian.install("new").returncode == 0
    assert not debian.policy.exists()


# --- pip's settings for uv


def test_uv_is_told_what_pip_was_told() -> None:
    listing = """\
:env:.cert='/mine.crt'
global.cert='/machine.crt'
global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://index.example/simple'
install.trusted-host='index.example'
freeze.timeout='10'
"""
    assert as_uv(pip_settings(listing)) == {
        "SSL_CERT_FILE": "/mine.crt",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "index.example",
    }


def test_uv_is_told_nothing_when_pip_was_told_nothing() -> None:
    assert as_uv(pip_settings("")) == {}


def test_a_directory_of_packages_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert as_uv({"find-links": f"{tmp_path} /nowhere"}) == {"UV_FIND_LINKS": str(tmp_path)}
