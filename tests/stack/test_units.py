"""The systemd units: systemd takes them, and they leave the worker the time that it needs to stop."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import load_settings
from stack.settings import REPOSITORY

UNITS = sorted((REPOSITORY / "systemd").glob("*.service"))


def setting(unit: Path, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    assert len(found) == 1, f"{unit.name}: {name}"
    return str(found[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_them(tmp_path: Path) -> None:
    for unit in UNITS:  # the installed programs are not here, and systemd looks for them
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/longhaul/bin/", f"{sys.prefix}/bin/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / unit.name for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_worker_has_more_time_to_stop_than_its_jobs_to_end() -> None:
    settings = load_settings(REPOSITORY / "deploy" / "config.example.yaml", {"LONGHAUL_DEVELOPMENT": "true"})
    worker, api = REPOSITORY / "systemd" / "worker-daemon.service", REPOSITORY / "systemd" / "longhaul-api.service"
    assert int(setting(worker, "TimeoutStopSec")) > settings.shutdown_seconds + 10
    assert int(setting(api, "TimeoutStopSec")) > settings.api.shutdown_seconds


def test_the_workers_memory_has_room_for_the_engine_and_a_job_at_their_limits() -> None:
    settings = load_settings(REPOSITORY / "deploy" / "config.example.yaml", {"LONGHAUL_DEVELOPMENT": "true"})
    memory = setting(REPOSITORY / "systemd" / "worker-daemon.service", "MemoryMax")
    assert memory.endswith("G")
    assert int(memory.removesuffix("G")) * 1024 >= 2 * settings.max_rss_mb


def test_the_worker_is_the_daemon_that_operators_know() -> None:
    worker = REPOSITORY / "systemd" / "worker-daemon.service"
    assert setting(worker, "ExecStart").endswith("/worker-engine --config /etc/worker/config.yaml")
    assert setting(worker, "SyslogIdentifier") == "worker-engine"
    assert setting(worker, "Restart") == "always"
    after = setting(worker, "After").split()
    assert {"network.target", "redis-server.service", "rabbitmq-server.service"} <= set(after)


WORST_EXPOSURE = 1.5
"""Of systemd's scale from 0 to 10; a unit that says nothing has 9.2."""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_gives_away_little_of_the_machine(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= WORST_EXPOSURE


def test_what_a_unit_may_write_is_its_own_state() -> None:
    for unit in UNITS:
        assert setting(unit, "ProtectSystem") == "strict"
        assert setting(unit, "StateDirectory") == "longhaul"
        assert "ReadWritePaths" not in unit.read_text()
