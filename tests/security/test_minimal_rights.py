"""Redis grants each role what its work needs and nothing else: what is granted is what a journey uses."""

import asyncio
import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aio_pika
import httpx
import pytest
from redis.asyncio import Redis

from app.store.leadership import RENEW, RESIGN
from app.store.lua import source, text_of
from stack.servers import RabbitServer, RedisServer
from tests.api.sockets import opened
from tests.api.streaming import streaming
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
TALKING: Final = "tests.security.talking"
CALL: Final = re.compile(r"redis\.p?call\('(\w+)'")


def commands_by_digest() -> dict[str, set[str]]:
    """Return which commands stand in each of our scripts, by the digest under which Redis runs it."""
    names = [entry.name.removesuffix(".lua") for entry in (files("app.store") / "scripts").iterdir()]
    texts = [RENEW, RESIGN, *(text for name in names for text in (text_of(name), source(name)))]
    return {sha1(text.encode()).hexdigest(): {name.lower() for name in CALL.findall(text)} for text in texts}


class Usage:
    """Which commands each user has sent, those of its scripts among them."""

    def __init__(self, operator: Redis) -> None:
        self._operator = operator
        self._users: dict[str, str] = {}
        self._scripts = commands_by_digest()
        self.used: defaultdict[str, set[str]] = defaultdict(set)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch until the block is left, and all that was sent in it has been seen."""
        last = uuid4().hex
        async with self._operator.monitor() as monitor:
            watch = asyncio.create_task(self._watch(monitor, last))
            yield
            await self._operator.echo(last)
            await watch

    async def _watch(self, monitor: Any, last: str) -> None:
        while True:
            seen = await monitor.next_command()
            if seen["client_type"] == "lua":
                continue
            words = seen["command"].split()
            if words[-1] == last:
                return
            address = f"{seen['client_address']}:{seen['client_port']}"
            if address not in self._users:
                await self._ask_for(address)
            used = self.used[self._users.get(address, "")]
            name = words[0].lower()
            used.add(f"{name}|{words[1].lower()}" if name == "script" else name)
            if name == "evalsha":
                used |= self._scripts[words[1]]

    async def _ask_for(self, address: str) -> None:
        """Learn whose this address is, and the others' too, but of those who have yet to say who they are."""
        for client in await self._operator.client_list():
            if client["addr"] == address or client["user"] != "default":
                self._users[client["addr"]] = client["user"]


async def granted(operator: Redis, user: str) -> set[str]:
    """Return the commands that a user is granted, each by its own name."""
    rules: Any = await operator.acl_getuser(user)
    assert rules["categories"] == ["-@all"], "nobody knows what is in a category"
    assert all(rule.startswith("+") for rule in rules["commands"])
    return {rule.removeprefix("+") for rule in rules["commands"]}


async def journey(service: Service, rabbit: RabbitServer) -> None:
    """Use all that there is, with a worker that comes late."""
    async with service.client() as alice, service.client("admin", scopes="workload:admin") as admin:

        async def submitted(key: str | None = None, **order: Any) -> str:
            headers = {"Idempotency-Key": key} if key else {}
            answer = await alice.post("/v1/workload", json=order, headers=headers)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["task_id"])

        async def posted(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
            answer = await client.post(path, json=body)
            assert answer.status_code in (201, 202), answer.text
            return answer.json()

        lost = await submitted(action="noop", id=1)
        await purge(service, rabbit, "bench")
        await service.start_worker()
        talk = await submitted("a-key", action="talk")
        socket_ticket = (await posted(alice, "/v1/tickets", kind="ws"))["ticket"]
        async with opened(service, talk, query=f"?ticket={socket_ticket}") as socket:
            await socket.next()
        await service.ended(alice, talk)
        assert (await alice.get(f"/v1/workload/{talk}/logs")).json()["items"]
        stream_ticket = (await posted(alice, "/v1/tickets", kind="sse", task_id=talk))["ticket"]
        async with httpx.AsyncClient(base_url=service.base_url) as browser:
            async with streaming(browser, talk, params={"ticket": stream_ticket}) as stream:
                await stream.rest()
            assert (await browser.get("/readyz")).status_code == 200

        slow = await submitted(action="sleep", seconds=60, steps=600)

        async def runs() -> bool:
            return bool((await alice.get(f"/v1/workload/status/{slow}")).json()["status"] == "PROCESSING")

        await wait_until(runs, what="its beginning")
        await posted(admin, f"/v1/admin/tasks/{slow}/requeue", reason="a journey")
        await posted(alice, f"/v1/workload/{slow}/cancel")
        await service.ended(alice, slow)
        await posted(alice, f"/v1/workload/{slow}/retry")
        await posted(alice, f"/v1/workload/{slow}/cancel")
        await service.ended(alice, slow)
        assert (await alice.delete(f"/v1/workload/{slow}")).status_code == 204
        assert len((await alice.get("/v1/workload")).json()["items"]) == 2
        for path in ("queues", "workers", "tasks", "tasks/stalled", "dead-letters"):
            assert (await admin.get(f"/v1/admin/{path}")).status_code == 200
        await service.ended(alice, lost)  # its message was lost, and housekeeping has sent another


async def purge(service: Service, rabbit: RabbitServer, queue: str) -> None:
    """Empty a queue, as only an operator may."""
    vhost = service.settings.amqp_url.get_secret_value().rpartition("/")[2]
    url = rabbit.url.rpartition("/")[0] + f"/{vhost}"
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await (await channel.get_queue(queue)).purge()


async def test_redis_grants_each_role_what_it_uses_and_nothing_else(
    scratch_redis_server: RedisServer,
    redis: Redis,
    rabbit_server: RabbitServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker's rights include the API's, for whoever gives both one user."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)  # where the services find `talking`
    settings: dict[str, Any] = {
        "actions": ["app.actions.noop", "app.actions.sleep", TALKING],
        "handlers": ["workers.handlers.noop", "workers.handlers.sleep", TALKING],
        "queues": {"bench": {"prefetch": 4, "concurrency": 4}},
        "redrive_after_seconds": 1,
    }
    async with Redis.from_url(scratch_redis_server.url, socket_timeout=None) as operator:
        usage = Usage(operator)
        async with (
            usage.watching(),
            running_service(scratch_redis_server, rabbit_server, tmp_path, workers=0, **settings) as service,
        ):
            await journey(service, rabbit_server)
    assert await granted(redis, "api") - usage.used["api"] == set()
    assert await granted(redis, "worker") - usage.used["worker"] - usage.used["api"] == set()
