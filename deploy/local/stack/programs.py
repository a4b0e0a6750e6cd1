"""The product's own programs as the supervisor runs them: the API, the worker, and the commands that are run once."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from stack.errors import StackError
from stack.ports import HOST, listens
from stack.processes import Process
from stack.servers import RabbitServer
from stack.service import Service
from stack.web import status_of

BIN = Path(sys.executable).parent  # of the virtual environment that runs the supervisor


@dataclass(frozen=True, slots=True)
class Commands:
    """How the product's programs are called; tests put others in their place."""

    longhaul: Sequence[str | Path] = (BIN / "longhaul",)
    worker_engine: Sequence[str | Path] = (BIN / "worker-engine",)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every program of the product is given."""

    commands: Commands
    config: Path
    environment: Mapping[str, str]
    logs: Path


class Api(Service):
    """`longhaul serve`: one process of the API."""

    name = "the API"
    boot_seconds = 60
    stop_seconds = 20  # it lets open requests end (api.shutdown_seconds)

    def __init__(
        self, surroundings: Surroundings, port: int, *, way_in: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Name a process of the API.

        Args:
            surroundings: As for every program.
            port: On 127.0.0.1.
            way_in: The base by which clients reach it, through nginx; it is asked there whether it is ready.
            environment: What it is given beyond what every program is: its own users' URLs.
        """
        super().__init__()
        self._way_in = way_in
        self._environment = environment or {}
        self._surroundings = surroundings
        self.port = port

    @property
    def url(self) -> str:
        """Its base."""
        return f"http://{HOST}:{self.port}"

    @property
    def where_to_look(self) -> str:
        """The file with its log lines."""
        return str(self._surroundings.logs / "api.log")

    def ports(self) -> tuple[int, ...]:
        """Return its port."""
        return (self.port,)

    def is_ready(self) -> bool:
        """Ask whether it and all that it needs can work."""
        return listens(self.port) and status_of(f"{self._way_in}/readyz") == HTTPStatus.OK

    def _spawn(self) -> Process:
        around = self._surroundings
        return Process(
            [*around.commands.longhaul, "serve", "--config", around.config, "--port", str(self.port)],
            log=around.logs / "api.log",
            environment={**self._environment, **around.environment},
        )


class Worker(Service):
    """`worker-engine`: one worker."""

    name = "the worker"
    boot_seconds = 60
    stop_seconds = 45  # it lets running jobs end, or checkpoints them (shutdown_seconds)

    def __init__(self, surroundings: Surroundings, rabbit: RabbitServer, queues: Sequence[str]) -> None:
        """Name a worker that consumes these queues."""
        super().__init__()
        self._surroundings = surroundings
        self._rabbit = rabbit
        self._queues = queues

    @property
    def where_to_look(self) -> str:
        """The file with its log lines."""
        return str(self._surroundings.logs / "worker.log")

    def is_ready(self) -> bool:
        """Ask the broker whether each queue has a consumer."""
        return all(self._rabbit.has_consumers(queue) for queue in self._queues)

    def _spawn(self) -> Process:
        around = self._surroundings
        return Process(
            [*around.commands.worker_engine, "--config", around.config],
            log=around.logs / "worker.log",
            environment=around.environment,
        )


def declare(around: Surroundings) -> None:
    """Declare exchanges and queues, which the services only look up.

    Raises:
        StackError: It failed.
    """
    _run(around, ["admin", "declare", "--nobody-runs", "--config", str(around.config)])


def make_token(around: Surroundings, *, subject: str, scopes: str, seconds: int) -> str:
    """Return an access token.

    Raises:
        StackError: It failed.
    """
    options = ["--subject", subject, "--scope", scopes, "--ttl-seconds", str(seconds)]
    return _run(around, ["token", "--config", str(around.config), *options]).strip()


def _run(around: Surroundings, arguments: list[str]) -> str:
    command = [*map(str, around.commands.longhaul), *arguments]
    log = around.logs / "commands.log"
    try:
        done = subprocess.run(
            command,
            env=around.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,  # Ctrl-C is the supervisor's to answer
            check=False,
        )
    except OSError as error:
        raise StackError(f"{command[0]} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"`longhaul {arguments[0]}` did not end within 60 s") from error
    if done.returncode:
        with log.open("a") as stream:
            stream.write(done.stderr)
        said = [
            line.strip("│ ") for line in done.stderr.splitlines() if any(map(str.isalnum, line))
        ]  # no box of typer's
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise StackError(f"`longhaul {arguments[0]}` failed: {reason} (see {log})")
    return done.stdout
