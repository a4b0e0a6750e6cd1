"""A service of the benchmarks' own, on private servers on loopback, and what its processes use."""

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import psutil
from redis import Redis

ROOT: Final = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "local")]

from app.store.keys import owner_tasks_key, task_key  # noqa: E402
from benchmarks.prepare import configuration  # noqa: E402
from stack.ports import free_port  # noqa: E402
from stack.servers import RabbitServer, RedisServer  # noqa: E402
from tests.support.service import Service, api_environment, own_vhost  # noqa: E402

CONNECTIONS: Final = 32
LOOK_SECONDS: Final = 0.02
AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Stage:
    """A running service without workers."""

    redis: RedisServer
    rabbit: RabbitServer
    service: Service

    async def submit(self, count: int, **order: Any) -> None:
        """Have so many tasks accepted, over a few connections; `id` counts them."""
        numbers = iter(range(1, count + 1))
        await asyncio.gather(*(self._submit_from(numbers, order) for _ in range(min(CONNECTIONS, count))))

    async def _submit_from(self, numbers: Iterable[int], order: dict[str, Any]) -> None:
        """Submit over one connection; a client library would cost more than the service."""
        port, token = self.service.settings.api.port, self.service.token("bench", ttl_seconds=86_400)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /v1/workload HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        )
        with contextlib.closing(writer):
            for number in numbers:
                body = json.dumps(order | {"id": number})
                writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
                told = await reader.readexactly(length)
                assert answer.startswith(b"http/1.1 202"), told.decode()

    def ended(self) -> int:
        """Return how many tasks have a row."""
        path = self.service.directory / "archive.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as archive:
            # Nothing is ever deleted here, and to count a million would take longer than what is measured.
            rows: int = archive.execute("SELECT coalesce(max(rowid), 0) FROM ended").fetchone()[0]
            return rows

    async def add_ended(self, count: int) -> None:
        """Add copies of a task that has ended, each kept as it would be: hash, row, and a place in its owner's list."""
        await asyncio.to_thread(self._add_ended, count)

    def _add_ended(self, count: int) -> None:
        path = self.service.directory / "archive.db"
        with (
            contextlib.closing(sqlite3.connect(path, timeout=60)) as archive,
            Redis.from_url(self.redis.url) as operator,
        ):
            columns = [name for _, name, *_ in archive.execute("PRAGMA table_info(ended)")]
            row = dict(zip(columns, archive.execute("SELECT * FROM ended").fetchone(), strict=True))
            original = UUID(row["task_id"])
            kept, lives_ms = operator.dump(task_key(original)), operator.pttl(task_key(original))
            insert = f"INSERT INTO ended ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"
            for begin in range(0, count, AT_ONCE):
                ids = [uuid4() for _ in range(min(AT_ONCE, count - begin))]
                with archive:
                    archive.executemany(insert, [_of_another(row, str(original), str(task_id)) for task_id in ids])
                pipeline = operator.pipeline(transaction=False)
                for task_id in ids:
                    pipeline.restore(task_key(task_id), lives_ms, kept)
                pipeline.zadd(owner_tasks_key(row["owner_id"]), {str(one): row["created_at"] for one in ids})
                pipeline.execute()
            while operator.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.2)

    async def work_off(self, count: int) -> None:
        """Let a worker run all tasks that wait, until so many in all have ended, and stop it."""
        worker = await self.service.start_worker()
        await self.until_ended(count)
        await asyncio.sleep(1)  # an end is shown after its row
        worker.end(patience=15)
        self.service.workers.clear()

    async def until_ended(self, count: int) -> None:
        """Wait until so many tasks have a row."""
        while self.ended() < count:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(LOOK_SECONDS)

    def redis_bytes(self) -> int:
        """Return what Redis holds in its memory, its clients' buffers and that of its file apart."""
        with Redis.from_url(self.redis.url) as operator:
            memory: dict[str, Any] = operator.info("memory")
            return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])

    def cpu_seconds(self) -> float:
        """Return what API, workers and servers have used so far."""
        service = self.service
        processes = [*service.apis, *service.workers]
        pids = [*(process.pid for process in processes), self.redis.pid, self.rabbit.pid]
        return sum(_cpu_seconds(pid) for pid in pids if pid is not None)

    async def cost(self, count: int, work: Callable[[], Awaitable[None]]) -> float:
        """Return the CPU time, in ms for each of `count` tasks, that API, workers and servers use meanwhile."""
        before = self.cpu_seconds()
        await work()
        return (self.cpu_seconds() - before) / count * 1000


@contextlib.contextmanager
def servers() -> Iterator[tuple[Path, RedisServer, RabbitServer]]:
    """Start a Redis and a RabbitMQ, in a directory that goes with them."""
    with tempfile.TemporaryDirectory(prefix="longhaul-bench-") as name:
        directory = Path(name)
        redis = RedisServer(directory / "redis", free_port(), die_with_parent=True)
        rabbit = RabbitServer(directory / "rabbit", free_port(3), die_with_parent=True)
        redis.start()
        rabbit.start()
        try:
            yield directory, redis, rabbit
        finally:
            rabbit.stop()
            redis.stop()


@contextlib.asynccontextmanager
async def staged(**overrides: Any) -> AsyncIterator[Stage]:
    """Start servers and an API; `overrides` replace whole keys of the configuration."""
    with servers() as (directory, redis, rabbit):
        amqp_url = own_vhost(rabbit)
        home = directory / "service"
        home.mkdir()
        # The tests' support reads the log as text; the configuration is the measured one in all else.
        log = {"log": {"level": "info", "format": "text"}}
        values = configuration(redis.service_url, amqp_url, home, free_port()) | log | overrides
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        service = Service(
            home, values, environment=environment, api_environment=api_environment(redis, rabbit, amqp_url)
        )
        try:
            await service.declare()
            await service.start_api()
            yield Stage(redis, rabbit, service)
        finally:
            service.stop()


def _of_another(row: dict[str, Any], task_id: str, another: str) -> dict[str, Any]:
    return row | {"task_id": another, "document": row["document"].replace(task_id, another)}


def _cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(one.cpu_times().user + one.cpu_times().system for one in [process, *process.children(recursive=True)])
