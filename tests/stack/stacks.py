"""A stack as a user sees it: what is done with it, and what is to be seen of it from outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from stack.ports import free_port
from stack.processes import Identity
from stack.records import Records, SupervisorLock
from stack.settings import REPOSITORY
from tests.support.waiting import PATIENCE


class Stack:
    """On ports and in a directory of its own."""

    def __init__(self, run_directory: Path) -> None:
        self.run_directory = run_directory
        self.ports = {
            "LONGHAUL_NGINX_PORT": free_port(),
            "LONGHAUL_API_PORT": free_port(),
            "LONGHAUL_REDIS_PORT": free_port(),
            "LONGHAUL_AMQP_PORT": free_port(3),
        }
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LONGHAUL_")},
            "PYTHONPATH": str(REPOSITORY / "deploy" / "local"),
            "LONGHAUL_RUN_DIR": str(run_directory),
            **{name: str(port) for name, port in self.ports.items()},
            "LONGHAUL_SHUTDOWN_SECONDS": "6",  # an idle worker stops sooner
        }

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "stack"]

    def do(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m stack COMMAND` from elsewhere, as `make` would from the clone."""
        return subprocess.run(
            [*self.command, command],
            env=self.environment | environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def up(self) -> None:
        done = self.do("up")
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def description(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.run_directory / "stack.json").read_text())
        return content

    def pids(self) -> dict[str, int]:
        pids = self.description()["pids"]
        return {name: pid[0] if isinstance(pid, list) else pid for name, pid in pids.items()}

    def supervisor(self) -> Identity:
        holder = SupervisorLock(self.run_directory).holder()
        assert holder is not None
        return holder

    def processes(self) -> dict[str, Identity]:
        """Return every process of it, epmd too."""
        return Records(self.run_directory).read()

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports['LONGHAUL_NGINX_PORT']}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def logs(self) -> str:
        """Return the ends of its logs, for the message of a failed test."""
        files = sorted((self.run_directory / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2000:]}" for file in files)


def until(fact: Callable[[], object], *, seconds: float, what: str) -> None:
    """Wait for a fact of another process.

    Raises:
        AssertionError: It does not hold after so many seconds.
    """
    deadline = time.monotonic() + seconds * PATIENCE
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
