"""The supervisor: starts everything in order, writes `stack.json`, restarts what dies, stops everything in order.

One loop. It must never wait for one service while another could die unnoticed: a restart is a launch, and whether it
worked is seen at the next look.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final

from app.settings import Settings
from stack.configuration import check_configuration, write_configuration
from stack.description import Description, Tokens
from stack.errors import StackError
from stack.nginx import Nginx
from stack.ports import is_free
from stack.programs import Api, Commands, Surroundings, Worker, declare, make_token
from stack.records import Records
from stack.servers import RabbitServer, RedisServer
from stack.service import Service
from stack.settings import StackSettings
from stack.web import json_of

LOOK_EVERY: Final = 0.1  # seconds
# Between two starts of a service, at least: what cannot start must not use up the machine.
APART: Final = 2.0
LARGE_LOG: Final = 50_000_000
READ_AND_SUBMIT: Final = "workload:submit workload:read"
SCOPES: Final = {"alice": READ_AND_SUBMIT, "bob": READ_AND_SUBMIT, "admin": f"{READ_AND_SUBMIT} workload:admin"}
WEEK: Final = 604_800
WEBHOOK_QUEUE: Final = "webhooks"  # as in app/broker/topology.py, which would load all of AMQP here


class Supervisor:
    """One stack, from its start to its stop."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        say: Callable[[str], None] = print,
        commands: Commands = Commands(),  # noqa: B008  # immutable
    ) -> None:
        """Name a stack; nothing is written or started yet.

        Args:
            settings: Where it lives and listens.
            say: Takes each line for the terminal or the log.
            commands: How the product's programs are called.
        """
        self.stopping = Event()
        self._settings = settings
        self._say = say
        run = settings.run_directory
        self._logs = run / "logs"
        self._records = Records(run)
        self._redis = RedisServer(run / "redis", settings.redis_port)
        self._rabbit = RabbitServer(run / "rabbitmq", settings.amqp_port)
        self._nginx = Nginx(run / "nginx", settings.nginx_port, [settings.api_port], logs=self._logs)
        self._surroundings = Surroundings(commands, run / "config.yaml", settings.service_environment, self._logs)
        self._started: dict[str, Service] = {}
        self._launched_at: dict[str, float] = {}
        self.description: Description | None = None

    def start(self) -> None:
        """Start everything; return when the API answers through nginx and the worker consumes.

        Raises:
            StackError: It cannot be started; what was started by then is not stopped yet.
            Stopped: `stopping` was set meanwhile.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        self._turn_logs()
        if left := self._records.end_leftovers():
            self._say(f"ended what an earlier supervisor had left: {', '.join(left)}")
        self._require_free_ports()
        services = self._write_configuration()
        # The configuration has the workers' users; the API has its own, which may less.
        users = {"LONGHAUL_REDIS_URL": self._redis.api_url, "LONGHAUL_AMQP_URL": self._rabbit.api_url}
        self._api = Api(self._surroundings, self._settings.api_port, way_in=self._nginx.url, environment=users)
        self._worker = Worker(self._surroundings, self._rabbit, [*services.queues, WEBHOOK_QUEUE])

        self._say("starting Redis and RabbitMQ")
        self._launch("redis", self._redis)
        self._launch("rabbitmq", self._rabbit)
        with ThreadPoolExecutor() as pool:  # while RabbitMQ boots
            tokens = {name: pool.submit(self._make_token, name) for name in SCOPES}
            self._wait_for(self._redis)
            self._wait_for(self._rabbit)
            declare(self._surroundings)
            self._say("starting the API, the worker and nginx")
            self._launch("api", self._api)
            self._launch("worker", self._worker)
            self._launch("nginx", self._nginx)
            for service in (self._nginx, self._api, self._worker):
                self._wait_for(service)
            made = Tokens(**{name: future.result() for name, future in tokens.items()})
        self.description = self._describe(made)
        self.description.write(self._settings.run_directory, self._pids())

    def watch(self) -> None:
        """Restart whatever dies, until `stopping` is set."""
        while not self.stopping.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Restart what has died by now, once."""
        restarted = False
        for name, service in self._started.items():
            if service.is_running or time.monotonic() < self._launched_at[name] + APART:
                continue
            self._say(f"{name} died, it is restarted")
            try:
                self._launch(name, service)
            except StackError as error:
                self._say(f"{name}: {error}")
            restarted = True
        epmd = self._rabbit.revive_epmd()
        if (restarted or epmd) and self.description:
            self._records.write(self._flat_pids())
            self.description.write(self._settings.run_directory, self._pids())

    def stop(self) -> None:
        """Stop everything: first the way in, then who does the work, then the servers. May be called again."""
        Description.remove(self._settings.run_directory)
        for name in reversed(self._started):
            self._started[name].stop()
        self._records.end_leftovers()

    # --- parts of the start

    def _turn_logs(self) -> None:
        """Begin large logs anew, and keep the last one of each."""
        for log in self._logs.glob("*.log"):
            if log.stat().st_size > LARGE_LOG:
                log.rename(log.with_suffix(".log.old"))

    def _require_free_ports(self) -> None:
        for port, variable in self._settings.ports().items():
            if not is_free(port):
                raise StackError(f"port {port} is in use; choose another one with {variable}")

    def _write_configuration(self) -> Settings:
        file = write_configuration(
            self._settings,
            redis_url=self._redis.service_url,
            amqp_url=self._rabbit.service_url,
            public_url=self._nginx.url,
        )
        return check_configuration(file, self._settings)

    def _launch(self, name: str, service: Service) -> None:
        self._started[name] = service
        self._launched_at[name] = time.monotonic()
        service.launch()
        self._records.write(self._flat_pids())

    def _wait_for(self, service: Service) -> None:
        service.wait_until_ready(self.stopping)

    def _make_token(self, subject: str) -> str:
        return make_token(self._surroundings, subject=subject, scopes=SCOPES[subject], seconds=WEEK)

    # --- what is told to others

    def _flat_pids(self) -> Mapping[str, int]:
        pids = {name: service.pid for name, service in self._started.items() if service.is_running}
        if self._rabbit.epmd_pid:
            pids["epmd"] = self._rabbit.epmd_pid
        return pids

    def _pids(self) -> Mapping[str, int | list[int]]:
        return {
            "api": [self._api.pid],
            "worker": [self._worker.pid],
            "redis": self._redis.pid,
            "rabbitmq": self._rabbit.pid,
            "nginx": self._nginx.pid,
        }

    def _webhook_secrets(self, tokens: Tokens) -> Mapping[str, str]:
        """Ask for the two users' secrets, as they would: the first one is made by that."""
        url = f"{self._api.url}/v1/webhooks/secret"
        return {
            name: str(json_of(url, token=token)["secret"])
            for name, token in (("alice", tokens.alice), ("bob", tokens.bob))
        }

    def _describe(self, tokens: Tokens) -> Description:
        return Description(
            base_url=self._api.url,
            api_urls=[self._api.url],
            nginx_url=self._nginx.url,
            dashboard_url=f"{self._nginx.url}/dashboard",
            redis_url=self._redis.url,
            amqp_url=self._rabbit.url,
            tokens=tokens,
            webhook_secrets=self._webhook_secrets(tokens),
            config=str(self._surroundings.config),
        )
