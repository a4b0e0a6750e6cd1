"""The stage of the crash stories: one service, a process that will die for each story, and a healthy one afterwards."""

import asyncio
import contextlib
from typing import Any, Final
from uuid import uuid4

import httpx

from app.domain.task import Owner
from app.service.submission import derived_task_id
from stack.processes import Process
from tests.support.crashing import Sluice, Theatre
from tests.support.waiting import wait_until

DYING: Final = 120.0
"""Seconds in which an armed process must have met its point, on a busy machine."""


class Stage:
    """What one story sees: its own queue, its own caller, and its doomed process."""

    def __init__(self, service: Theatre, name: str, point: str, sluice: Sluice, healthy: asyncio.Event) -> None:
        self.service = service
        self.name = name
        """Of the story, its queue, its action and its log."""
        self.point = point
        self.sluice = sluice
        self.healthy = healthy
        """Set once a healthy worker serves every queue."""
        self.subject = f"user-of-{name}"
        self.key = f"key-of-{uuid4().hex}"
        self.task_id = ""
        self.doomed: Process | None = None
        self.doomed_url = ""

    async def arm(self, who: str, **environment: str) -> None:
        """Start the process that will die."""
        environment = {"CRASH": self.point, **environment}
        if who == "API":
            self.doomed, self.doomed_url = await self.service.api(self.name, **environment)
        else:
            self.doomed = await self.service.worker(self.name, serves=[self.name], **environment)

    async def leads(self) -> None:
        """Wait until it keeps house."""

        async def leading() -> bool:
            return "keeping house" in self.service.log_of(self.name)

        await wait_until(leading, what="its leadership")

    async def has_died(self) -> None:
        """Wait until it has died, of nothing but its point."""
        doomed = self.doomed
        assert doomed is not None

        async def dead() -> bool:
            return not doomed.is_running

        await wait_until(dead, timeout=DYING, what=f"the death at {self.point}")
        doomed.kill()
        assert doomed._child.returncode == 137, self.service.log_of(self.name)

    # --- the caller

    @contextlib.asynccontextmanager
    async def client(self, *, doomed: bool = False) -> Any:
        """Talk to the healthy API, or to the one that will die."""
        async with self.service.client(self.subject) as client:
            client.timeout = httpx.Timeout(30)
            if doomed:
                client.base_url = httpx.URL(self.doomed_url)
            yield client

    async def submit(self, **work: Any) -> dict[str, Any]:
        """Submit the story's task to the healthy API, with its key."""
        async with self.client() as client:
            answer = await client.post("/v1/workload", json=self.order(work), headers=self.headers)
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        assert self.task_id in ("", document["task_id"]), "a second task"
        self.task_id = document["task_id"]
        return document

    async def submit_to_the_doomed(self, **work: Any) -> None:
        """Submit it to the API that dies before it answers."""
        self.task_id = str(self.id_of_key)
        await self.without_answer("POST", "/v1/workload", json=self.order(work), headers=self.headers)

    async def without_answer(self, method: str, path: str, **request: Any) -> None:
        """Ask the API that dies before it answers."""
        async with self.client(doomed=True) as client:
            try:
                answer = await client.request(method, path, **request)
            except httpx.TransportError:
                return
        raise AssertionError(f"it answered: {answer.status_code} {answer.text}")

    async def ask(self, method: str, what: str = "") -> httpx.Response:
        """Ask the healthy API about the task; `what` is cancel, retry or nothing, for GET the status."""
        path = f"/v1/workload/status/{self.task_id}" if method == "GET" and not what else f"/v1/workload/{self.task_id}"
        async with self.client() as client:
            answer: httpx.Response = await client.request(method, f"{path}/{what}" if what else path)
            return answer

    def order(self, work: dict[str, Any]) -> dict[str, Any]:
        """The body of the story's order."""
        return {"action": self.name, **work}

    @property
    def headers(self) -> dict[str, str]:
        """The story's Idempotency-Key."""
        return {"Idempotency-Key": self.key}

    @property
    def id_of_key(self) -> object:
        """The id of the task that the key names."""
        return derived_task_id(Owner(self.service.settings.jwt.issuer, self.subject), self.key)

    # --- the outcome

    async def ended(self, *, within: float) -> dict[str, Any]:
        """Return the task's document once it has ended and a healthy worker serves it; not later than that."""
        await self.healthy.wait()
        async with self.client() as client:
            return await self.service.ended(client, self.task_id, timeout=within)

    async def nothing_is_left(self) -> None:
        """No sign of life: not in `live`, no lease, no order in Redis, no message in the story's queue."""
        assert not await self.service.is_living(self.task_id)
        left = await self.service.hash_of(self.task_id)
        assert left.get("status") not in ("PENDING", "PROCESSING", "created"), left
        assert not {"lease_until", "envelope", "guard", "worker"} & left.keys(), left

        async def drained() -> bool:
            return await self.service.ready(self.name) == 0

        await wait_until(drained, timeout=15, what="the queue's emptiness")
