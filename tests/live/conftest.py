"""A service with two API processes behind nginx, and a Redis of its own, which tests restart and empty."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from stack.nginx import Nginx
from stack.ports import free_port
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Cluster:
    """Two API processes, each behind an nginx, under one configuration."""

    service: Service
    redis: RedisServer
    front: Nginx
    """Before the first process."""
    other: Nginx
    """Before the second one."""

    @property
    def watched(self) -> Service:
        """The service, as callers reach the first process."""
        return reached_at(self.service, self.front.url)


def reached_at(service: Service, url: str) -> Service:
    """Return the same service at another address."""
    here = Service.__new__(Service)
    here.settings, here.directory, here.base_url = service.settings, service.directory, url
    return here


@pytest.fixture(scope="module")
async def cluster(
    own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """The two processes, a worker, and an nginx before each process."""
    directory: Path = tmp_path_factory.mktemp("live")
    queues = {name: {"prefetch": 500, "concurrency": 500} for name in ("bench", "report_gen", "transform")}
    async with running_service(own_redis, rabbit_server, directory, queues=queues) as service:
        _, second_url = await started_api(service)
        ports = [service.settings.api.port, httpx.URL(second_url).port or 0]
        fronts = [Nginx(directory / f"nginx{port}", free_port(), [port], die_with_parent=True) for port in ports]
        for front in fronts:
            await asyncio.to_thread(front.start)
        yield Cluster(service, own_redis, *fronts)
        for front in fronts:
            await asyncio.to_thread(front.stop)


async def started_api(service: Service) -> tuple[Process, str]:
    """Start one more API process of a service; return it, and where it listens."""
    port = free_port()
    process = service._start("longhaul", "serve", "--port", str(port), log=f"api{port}.log")
    service.apis.append(process)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url) as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await wait_until(ready, timeout=60, what="another API")
    return process, url


@pytest.fixture
async def alice(cluster: Cluster, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """This test's own caller, who talks to the second process."""
    headers = {"Authorization": f"Bearer {cluster.service.token(subject)}"}
    async with httpx.AsyncClient(base_url=cluster.other.url, headers=headers, timeout=30) as client:
        yield client
