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
        ["systemd-analyze", "verify", *(tmp_path / unit.name for unit in UNITS)],
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


def test_the_worker_is_the_daemon_that_operators_know() -> None:
    worker = REPOSITORY / "systemd" / "worker-daemon.service"
    assert setting(worker, "ExecStart").endswith("/worker-engine --config /etc/worker/config.yaml")
    assert setting(worker, "SyslogIdentifier") == "worker-engine"
    assert setting(worker, "Restart") == "always"
    after = setting(worker, "After").split()
    assert {"network.target", "redis-server.service", "rabbitmq-server.service"} <= set(after)
