"""Services whose processes are to die or to lose a server, and the evidence that is left afterwards."""

import asyncio
import contextlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

import aio_pika
import httpx
from redis.asyncio import Redis

from app.broker.dead_letters import dead_letters
from app.broker.topology import DELAY_LEVELS, delay_name
from app.store.epochs import Epochs
from app.store.keys import live_key, shard_of, task_key
from stack.ports import HOST, free_port
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.service import Service, api_environment, configuration, own_vhost
from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]


class Theatre(Service):
    """A service with the tests' own work, whose processes each have an environment and a log of their own."""

    def __init__(
        self,
        directory: Path,
        redis: RedisServer,
        rabbit: RabbitServer,
        *,
        queues: Sequence[str],
        url: str,
        slots: int = 10,
        **more: Any,
    ) -> None:
        values = configuration(redis.service_url, url, directory, free_port()) | {
            "actions": ["tests.support.handlers.work", "app.actions.noop"],
            "handlers": ["tests.support.handlers.workshop"],
            "queues": {name: {"prefetch": 10, "concurrency": slots} for name in [*queues, "bench"]},
        }
        self.effects = directory / "effects"
        self.effects.mkdir(parents=True)
        ours = {"PYTHONPATH": str(ROOT), "TEST_QUEUES": ",".join(queues), "TEST_EFFECTS": str(self.effects)}
        users = api_environment(redis, rabbit, url)
        super().__init__(directory, values | more, environment=os.environ | ours, api_environment=users)
        self.redis, self.rabbit, self.queues = redis, rabbit, tuple(queues)
        self._started: list[Process] = []

    async def api(self, name: str, **environment: str) -> tuple[Process, str]:
        """Start a further API, on a port of its own; return it, ready, and its URL."""
        port = free_port()
        process = self._launch(name, "longhaul", "serve", "--port", str(port), environment=environment)
        base_url = f"http://{HOST}:{port}"

        async def ready() -> bool:
            assert process.is_running, self.log_of(name)
            async with httpx.AsyncClient(base_url=base_url) as client:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/readyz")).status_code == 200
            return False

        await wait_until(ready, timeout=150, what=f"the readiness of the API {name}")
        return process, base_url

    async def worker(self, name: str, *, serves: Sequence[str] = (), **environment: str) -> Process:
        """Start a worker that serves some queues, all by default; return it once it consumes them."""
        if serves:
            environment.setdefault("TEST_SERVES", ",".join(serves))
        process = self._launch(name, "worker-engine", environment=environment)
        queues = len(serves or self.queues) + 1  # and that of the webhooks

        async def consuming() -> bool:
            assert process.is_running, self.log_of(name)
            return self.log_of(name).count("consuming queue=") >= queues

        await wait_until(consuming, timeout=150, what=f"the consuming of {name}")
        return process

    def _launch(self, name: str, program: str, *arguments: str, environment: Mapping[str, str]) -> Process:
        process = self._start(program, *arguments, log=f"{name}.log", environment=environment)
        self._started.append(process)
        return process

    def log_of(self, name: str) -> str:
        """What the processes of this name have logged."""
        return (self.directory / f"{name}.log").read_text()

    def stop(self) -> None:
        """End all processes, by their pids."""
        for process in self._started:
            process.kill()
        self._started.clear()
        super().stop()

    # --- the caller

    async def submit(self, client: httpx.AsyncClient, action: str = "work", **work: Any) -> str:
        """Submit a task; return its id. `key` is its Idempotency-Key."""
        key = work.pop("key", None)
        headers = {"Idempotency-Key": key} if key else {}
        answer = await client.post("/v1/workload", json={"action": action, **work}, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    async def shown(self, client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
        """Return a task's document."""
        answer = await client.get(f"/v1/workload/status/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until(
        self, client: httpx.AsyncClient, task_id: str, *, timeout: float = 15, **facts: Any
    ) -> dict[str, Any]:
        """Return a task's document once it says this."""

        async def says() -> dict[str, Any] | None:
            answer = await client.get(f"/v1/workload/status/{task_id}")
            document: dict[str, Any] = answer.json()
            return document if facts.items() <= document.items() else None

        found = await wait_until(says, timeout=timeout, what=f"{facts} of {task_id}")
        assert found is not None
        return found

    async def begun(self, task_id: str, *, times: int = 1, timeout: float = 15) -> None:
        """Wait until the task's handler has begun so often."""

        async def often() -> bool:
            return self.count_of(task_id)["begun"] >= times

        await wait_until(often, timeout=timeout, what=f"the beginning of {task_id}")

    # --- evidence

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Redis]:
        """A client of Redis that may do everything."""
        async with Redis.from_url(self.redis.url, decode_responses=True) as client:
            yield client

    async def empty_redis(self) -> None:
        """Lose all that Redis holds."""
        async with self.operator() as redis:
            await redis.flushall()

    async def let_epochs_grow_old(self) -> None:
        """End the wait of young epochs: nothing that was lost is alive any more."""
        async with Redis.from_url(self.redis.url) as redis:
            await Epochs(redis).count_as_old()

    async def hash_of(self, task_id: str) -> dict[str, str]:
        """What Redis holds of a task."""
        async with Redis.from_url(self.redis.url) as redis:
            found: Any = await redis.hgetall(task_key(UUID(task_id)))
            return {name.decode(): value.decode(errors="replace") for name, value in found.items()}

    async def is_living(self, task_id: str) -> bool:
        """Whether the task is listed as not ended."""
        async with self.operator() as redis:
            return await redis.zscore(live_key(shard_of(UUID(task_id))), task_id) is not None

    def rows(self, task_id: str) -> list[tuple[int, str]]:
        """Run and status of each of the task's rows in SQL."""
        file = self.settings.archive_url.get_secret_value().removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as archive:
            return list(archive.execute("SELECT run, status FROM ended WHERE task_id = ? ORDER BY run", [task_id]))

    def refusals(self, task_id: str) -> list[str]:
        """Of each of the task's messages that SQL bars: `doubted` or `refused`."""
        file = self.settings.archive_url.get_secret_value().removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as archive:
            found = archive.execute("SELECT in_doubt FROM refused WHERE task_id = ?", [task_id])
            return ["doubted" if in_doubt else "refused" for (in_doubt,) in found]

    def effects_of(self, task_id: str) -> list[dict[str, Any]]:
        """Each effect that the task has had, in order."""
        file = self.effects / task_id
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def count_of(self, task_id: str) -> Counter[int | str]:
        """How often each effect has happened."""
        return Counter(effect["step"] for effect in self.effects_of(task_id))

    async def messages(self) -> dict[str, int]:
        """How many messages each queue holds; only queues that hold any.

        Those that wait are counted exactly; those in a worker's hands as they were a few seconds ago at most. So there
        is no use in asking again at once, and rabbitmqctl costs a second of CPU: see `until_messages`.
        """
        vhost = urlsplit(self.settings.amqp_url.get_secret_value()).path[1:]
        listing = await asyncio.to_thread(
            self.rabbit.ctl, "list_queues", "-p", vhost, "name", "messages", "--formatter", "json"
        )
        async with self.broker() as channel:
            found = {
                row["name"]: max(row["messages"], await _ready(channel, row["name"])) for row in json.loads(listing)
            }
        return {name: count for name, count in found.items() if count}

    async def until_messages(
        self, are_right: Callable[[dict[str, int]], bool], *, timeout: float = 20, what: str = "the end of the messages"
    ) -> None:
        """Wait until the queues hold what they should."""

        async def right() -> bool:
            return are_right(await self.messages())

        await wait_until(right, timeout=timeout, pause=1, what=what)

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        """A channel to the service's virtual host."""
        url = self.settings.amqp_url.get_secret_value()
        async with await aio_pika.connect(url) as connection, await connection.channel() as channel:
            yield channel

    async def ready(self, queue: str) -> int:
        """How many messages of a queue are in nobody's hands."""
        async with self.broker() as channel:
            return await _ready(channel, queue)

    async def dead_letters_of(self, task_id: str) -> list[str]:
        """Why a task was buried, once for each of its dead letters."""
        url = self.settings.amqp_url.get_secret_value()
        async with await aio_pika.connect(url) as connection, dead_letters(connection, limit=1000) as letters:
            return [letter.reason for letter in letters if str(letter.task_id) == task_id]

    async def waiting(self) -> int:
        """How many messages wait for work, at once or later, exactly."""
        async with self.broker() as channel:
            return sum([await _ready(channel, name) for name in [*self.queues, *map(delay_name, DELAY_LEVELS)]])

    async def purge(self, queue: str) -> None:
        """Lose what waits in a queue."""
        async with self.broker() as channel:
            await (await channel.get_queue(queue)).purge()


async def _ready(channel: aio_pika.abc.AbstractChannel, queue: str) -> int:
    return (await channel.get_queue(queue, ensure=True)).declaration_result.message_count or 0


@asynccontextmanager
async def theatre(
    rabbit: RabbitServer,
    directory: Path,
    *,
    queues: Sequence[str] = ("work",),
    workers: int = 0,
    vhost: bool = True,
    **more: Any,
) -> AsyncIterator[Theatre]:
    """A declared service with an API, on a Redis of its own and, unless `vhost` is false, a virtual host of its own.

    Its workers are called `worker0`, `worker1`, ….
    """
    redis = RedisServer(directory / "redis", free_port(), die_with_parent=True)
    redis.start()
    try:
        url = own_vhost(rabbit) if vhost else rabbit.service_url
        service = Theatre(directory / "service", redis, rabbit, queues=queues, url=url, **more)
        try:
            await service.declare()
            await asyncio.gather(service.start_api(), *(service.worker(f"worker{n}") for n in range(workers)))
            yield service
        finally:
            service.stop()
    finally:
        redis.stop()


class Sluice:
    """A TCP proxy that can keep back what its clients send, and let it through later, when they are gone."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self.port = free_port()

    def url(self, url: str) -> str:
        """The same URL, through here."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    def shut(self) -> None:
        """Keep back what is sent from now on."""
        self._is_open.clear()

    def open(self) -> None:
        """Let it through."""
        for sink, data in self._held:
            sink.write(data)
        self._held.clear()
        self._is_open.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._target)
        for source, sink, gated in ((reader, back, True), (there, writer, False)):
            pipe = asyncio.create_task(self._pipe(source, sink, gated=gated))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, gated: bool) -> None:
        with contextlib.closing(sink):
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65_536):
                    if gated and not self._is_open.is_set():
                        self._held.append((sink, data))  # read all the same: a client's death may reset what waits
                    else:
                        sink.write(data)
                        await sink.drain()
            if gated:
                await self._is_open.wait()
