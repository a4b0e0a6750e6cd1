"""Stage: two APIs, three workers, Redis, RabbitMQ and PostgreSQL, each process behind proxies of its own.

It also does what the supervisor of `make up` does: whatever has died is started again, on its old data; a RabbitMQ
whose directory is gone comes back with the users and the virtual host of its definitions, and nothing else.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import aio_pika
import asyncpg
import httpx
import psutil
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from app.broker.topology import BIRTH_QUEUE, DELAY_LEVELS, delay_name
from app.store.keys import SHARDS, live_key, shard_of, task_key
from stack.ports import HOST, free_port
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.chaos.journal import Journal, now
from tests.chaos.proxy import Proxy, proxies
from tests.support.postgres import PostgresServer
from tests.support.service import BIN, Service, configuration
from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
APIS, WORKERS = ("api0", "api1"), ("worker0", "worker1", "worker2")
QUEUES: Final = {"soft": {"prefetch": 24, "concurrency": 16}, "hard": {"prefetch": 6, "concurrency": 4}}
LEASE_SECONDS: Final = 3
PUBLISH_SECONDS: Final = 1.5
HAND_OVER_SECONDS: Final = 2
APART: Final = 1.0
"""Seconds between two starts of a process, at least."""
MAX_ATTEMPTS: Final = 40
"""Enough that no healthy job ever uses them up, however often its workers are killed."""
SERVERS: Final = ("redis", "rabbitmq", "sql")
JOB_TITLE: Final = re.compile(r"longhaul: \w+ ([0-9a-f-]{36})")

Done = TypeVar("Done")


class Member:
    """One process of the service, its ways to the servers, and what it was started as."""

    def __init__(self, name: str, ways: Mapping[str, Proxy]) -> None:
        self.name = name
        self.ways = ways
        self.port = free_port() if name in APIS else 0
        self.process: Process | None = None
        self.launched_at = 0.0

    @property
    def base_url(self) -> str:
        """An API's."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the living process."""
        return self.process.pid if self.process and self.process.is_running else None


class Stage:
    """The running service, and an operator's view of it, which goes past the proxies."""

    def __init__(self, directory: Path, redis: RedisServer, rabbit: RabbitServer, postgres: PostgresServer) -> None:
        """Name it; `stage` starts it."""
        self.directory = directory
        self.redis_server, self.rabbit_server, self.postgres_server = redis, rabbit, postgres
        self.ports = {"redis": redis.port, "rabbitmq": rabbit.port, "sql": postgres.port}
        self.members = {name: self._member(name) for name in (*APIS, *WORKERS)}
        values = configuration(
            redis.service_url,
            rabbit.service_url,
            directory,
            self.members[APIS[0]].port,
            actions=["tests.chaos.orders"],
            handlers=["tests.chaos.workshop"],
            queues=QUEUES,
            lease_seconds=LEASE_SECONDS,
            max_attempts=MAX_ATTEMPTS,
            publish_timeout_seconds=PUBLISH_SECONDS,
            consumer_handover_seconds=HAND_OVER_SECONDS,
            redrive_after_seconds=5,
            shutdown_seconds=7,
            archive_url=postgres.url,
            seal_results=False,  # the checker reads the files, and has no key
            max_rss_mb=256,
            stall_timeout_seconds=LEASE_SECONDS,
        )
        ours = {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "deploy/local")]),
            "CHAOS_DIRECTORY": str(directory),
        }
        self.service = Service(directory, values, environment=os.environ | ours)
        self.settings = self.service.settings
        self.redis = Redis.from_url(
            redis.url,
            socket_timeout=2,
            socket_connect_timeout=2,
            decode_responses=True,
            retry=Retry(ConstantBackoff(0.2), 3),  # a connection may lie here that has died with an earlier Redis
        )
        self.deaths = Journal(directory / "processes.jsonl")
        self._threads = ThreadPoolExecutor(8)  # servers die with the thread that starts them: these last as long as we
        self._supervising: asyncio.Task[None] | None = None
        (directory / "logs").mkdir()

    def _member(self, name: str) -> Member:
        return Member(name, {server: Proxy(f"{name} to {server}", port) for server, port in self.ports.items()})

    async def blocking(self, work: Callable[[], Done]) -> Done:
        """Run what blocks (a server's start) in a thread that lives as long as the stage."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # --- processes

    async def start(self) -> None:
        """Declare everything, start all members, and return when they serve."""
        await self.service.declare()
        for member in self.members.values():
            self.launch(member)
        self._supervising = asyncio.create_task(self._supervise(), name="supervisor")
        await wait_until(self.is_serving, timeout=240, what="the service's readiness")

    async def is_serving(self) -> bool:
        """Whether the APIs are ready and every worker consumes, as the broker sees it."""
        async with httpx.AsyncClient(timeout=5) as client:
            for name in APIS:
                try:
                    answer = await client.get(f"{self.members[name].base_url}/readyz")
                except httpx.TransportError:
                    return False
                if answer.status_code != httpx.codes.OK:
                    return False
        try:
            async with self.channel() as channel:
                found = [(await channel.declare_queue(name, passive=True)).declaration_result for name in QUEUES]
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError):
            return False
        return all((one.consumer_count or 0) >= len(WORKERS) for one in found)

    def launch(self, member: Member) -> None:
        """Start a process."""
        if member.process is not None:
            member.process.kill()  # takes note of its end, and ends what is left of its group
        urls = {
            "LONGHAUL_REDIS_URL": member.ways["redis"].url(self.redis_server.service_url),
            "LONGHAUL_AMQP_URL": member.ways["rabbitmq"].url(self.rabbit_server.service_url),
            "LONGHAUL_ARCHIVE_URL": member.ways["sql"].url(self.postgres_server.url),
        }
        command = ["longhaul", "serve", "--port", str(member.port)] if member.name in APIS else ["worker-engine"]
        member.process = Process(
            [BIN / command[0], *command[1:], "--config", self.service.config],
            log=self.directory / "logs" / f"{member.name}.log",
            environment={**self.service.environment, **urls},
            die_with_parent=True,
        )
        member.launched_at = time.monotonic()

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for member in self.members.values():
                process = member.process
                if process is None or process.is_running or time.monotonic() < member.launched_at + APART:
                    continue
                pid = process.pid
                self.launch(member)
                self.deaths.write(name=member.name, pid=pid, status=process._child.returncode, at=now())

    def children(self) -> list[tuple[str, int]]:
        """The task and the pid of every job that runs in a process of its own."""
        found = []
        for name in WORKERS:
            pid = self.members[name].pid
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(pid).children(recursive=True) if pid else []:
                    with contextlib.suppress(psutil.Error, IndexError):
                        if title := JOB_TITLE.fullmatch(child.cmdline()[0]):
                            found.append((title[1], child.pid))
        return found

    async def close(self) -> None:
        """End everything, by its pid."""
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        ending = [member.process for member in self.members.values() if member.process]
        await asyncio.gather(*(self.blocking(_end(process)) for process in ending))
        await self.redis.aclose()
        self.deaths.close()
        self._threads.shutdown()

    # --- what an operator sees

    def url(self, server: str) -> str:
        """The operator's own."""
        return {
            "redis": self.redis_server.url,
            "rabbitmq": self.rabbit_server.url,
            "sql": self.postgres_server.url,
        }[server]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        """A channel of the operator's."""
        connection = await aio_pika.connect(self.url("rabbitmq"), timeout=5)
        async with connection, connection.channel() as channel:
            yield channel

    async def select(self, statement: str, *values: Any) -> list[Mapping[str, Any]]:
        """Ask SQL, as the operator."""
        connection = await asyncpg.connect(self.url("sql"), timeout=5)
        try:
            return list(await connection.fetch(statement, *values, timeout=20))
        finally:
            await connection.close(timeout=5)

    async def living(self) -> int:
        """How many tasks Redis lists as not ended."""
        return sum([int(await self.redis.zcard(live_key(shard))) for shard in range(SHARDS)])

    async def waiting(self) -> dict[str, int]:
        """How many messages wait in each work and delay queue, and in nobody's hands."""
        counts = {}
        async with self.channel() as channel:
            for name in [*QUEUES, *map(delay_name, DELAY_LEVELS)]:
                declared = (await channel.declare_queue(name, passive=True)).declaration_result
                counts[name] = declared.message_count or 0
        return counts

    async def is_marked(self) -> bool:
        """Whether RabbitMQ has its birth mark: then it was filled again."""
        try:
            async with self.channel() as channel:
                declared = (await channel.declare_queue(BIRTH_QUEUE, passive=True)).declaration_result
                return bool(declared.message_count)
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError):
            return False

    async def ended_since(self, moments: Mapping[str, float]) -> set[str]:
        """Which of these tasks SQL knows to have ended since their moment, or to be deleted."""
        if not moments:
            return set()
        rows = await self.select(
            "SELECT task_id, max(finished_at) AS at FROM ended WHERE task_id = ANY($1::uuid[]) GROUP BY task_id "
            "UNION SELECT task_id, NULL FROM forgotten WHERE task_id = ANY($1::uuid[])",
            list(moments),
        )
        found = [(str(row["task_id"]), row["at"]) for row in rows]
        return {one for one, at in found if at is None or at >= int(moments[one] * 1000)}

    async def not_published_since(self, moments: Mapping[str, float]) -> set[str]:
        """Which of these tasks have not been given a message since their moment, as Redis has it, nor ended there."""
        try:
            pipeline = self.redis.pipeline(transaction=False)
            for task_id in moments:
                pipeline.hget(task_key(UUID(task_id)), "finished_at")
                pipeline.zscore(live_key(shard_of(UUID(task_id))), task_id)
            answers = await pipeline.execute()
        except (RedisError, OSError):
            return set(moments)
        found = zip(moments.items(), answers[::2], answers[1::2], strict=True)
        return {one for (one, moment), ended, published in found if not ended and (published or 0) < moment * 1000}

    async def unknown(self, task_ids: Collection[str]) -> set[str]:
        """Which of these tasks Redis does not know: they have yet to be rebuilt from their messages."""
        try:
            pipeline = self.redis.pipeline(transaction=False)
            for task_id in task_ids:
                pipeline.hget(task_key(UUID(task_id)), "status")
            shown = await pipeline.execute()
        except (RedisError, OSError):
            return set(task_ids)
        return {one for one, status in zip(task_ids, shown, strict=True) if status in (None, "created", "aborted")}


def _end(process: Process) -> Callable[[], None]:
    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.end(patience=20)

    return end


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    """The service, running and whole."""
    for name in ("sink", "hungry"):
        (directory / name).mkdir(parents=True)
    redis = RedisServer(directory / "redis", free_port(), die_with_parent=True)
    rabbit = RabbitServer(directory / "rabbit", free_port(3), die_with_parent=True)
    postgres = PostgresServer()
    built = Stage(directory, redis, rabbit, postgres)
    try:
        async with proxies(*(way for member in built.members.values() for way in member.ways.values())):
            await asyncio.gather(*(built.blocking(server.start) for server in (redis, rabbit, postgres)))
            await built.start()
            try:
                yield built
            finally:
                await built.close()
    finally:
        for end in (redis.stop, rabbit.stop, postgres.remove):
            end()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a journal."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
