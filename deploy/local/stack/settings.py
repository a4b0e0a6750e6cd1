"""Where the stack lives and listens: defaults < `.env` < `LONGHAUL_*` environment. Everything with a default is here.

The services refuse a `LONGHAUL_*` name that they do not know, so they are given an environment without ours. What is
not ours passes through: `LONGHAUL_LEASE_SECONDS=5 make up` sets `lease_seconds` of API and worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from stack.errors import StackError

REPOSITORY: Final = Path(__file__).parents[3]
PREFIX: Final = "LONGHAUL_"

RUN_DIRECTORY: Final = ("LONGHAUL_RUN_DIR", ".run")
PORTS: Final = {
    "LONGHAUL_NGINX_PORT": 8080,  # the way in for clients
    "LONGHAUL_API_PORT": 8000,
    "LONGHAUL_REDIS_PORT": 16380,
    "LONGHAUL_AMQP_PORT": 15680,  # and the two after it, for Erlang's distribution and for epmd
}
OURS: Final = frozenset({RUN_DIRECTORY[0], *PORTS, "PYTHONPATH"})  # the last is how this package is found


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """One stack: its directory, its ports, and what else was set for the services."""

    run_directory: Path
    nginx_port: int
    api_port: int
    redis_port: int
    amqp_port: int
    service_environment: Mapping[str, str]

    @classmethod
    def load(cls, environment: Mapping[str, str], *, dotenv: Path = REPOSITORY / ".env") -> Self:
        """Read the settings.

        Raises:
            StackError: A value is no port, or `.env` holds something else than KEY=VALUE lines. Says where.
        """
        values = {**_read(dotenv), **environment}
        ports = {name: _port(name, values.get(name) or str(default)) for name, default in PORTS.items()}
        name, default = RUN_DIRECTORY
        return cls(
            run_directory=(REPOSITORY / (values.get(name) or default)).resolve(),
            nginx_port=ports["LONGHAUL_NGINX_PORT"],
            api_port=ports["LONGHAUL_API_PORT"],
            redis_port=ports["LONGHAUL_REDIS_PORT"],
            amqp_port=ports["LONGHAUL_AMQP_PORT"],
            service_environment={name: value for name, value in values.items() if name not in OURS},
        )

    def ports(self) -> dict[int, str]:
        """Return every port that the stack listens on, and which variable moves it."""
        return {
            self.nginx_port: "LONGHAUL_NGINX_PORT",
            self.api_port: "LONGHAUL_API_PORT",
            self.redis_port: "LONGHAUL_REDIS_PORT",
            self.amqp_port: "LONGHAUL_AMQP_PORT",
            self.amqp_port + 1: "LONGHAUL_AMQP_PORT, which takes two more",
            self.amqp_port + 2: "LONGHAUL_AMQP_PORT, which takes two more",
        }


def _port(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_533:
        raise StackError(f"{name}={text}: a port from 1 to 65533 is expected")
    return int(text)


def _read(dotenv: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    try:
        lines = dotenv.read_text().splitlines()
    except FileNotFoundError:
        return values
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise StackError(f"{dotenv}, line {number}: KEY=VALUE is expected")
        values[name.strip()] = _unquoted(value.strip())
    return values


def _unquoted(value: str) -> str:
    for quote in "'\"":
        if len(value) > 1 and value[0] == value[-1] == quote:
            return value[1:-1]
    return value
