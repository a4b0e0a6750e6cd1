"""A reader of server-sent events that tells everything that it saw."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

PATIENCE = 10.0


@dataclass(frozen=True)
class Message:
    """One event."""

    event: str
    id: str
    data: dict[str, Any]


class Stream:
    """An open stream, and what came over it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.messages: list[Message] = []
        self.fields: list[tuple[str, str]] = []
        self._parsed = self._parse()

    async def next(self) -> Message:
        """Return the next event.

        Raises:
            StopAsyncIteration: The stream has ended.
        """
        async with asyncio.timeout(PATIENCE):
            message = await anext(self._parsed)
        self.messages.append(message)
        return message

    async def rest(self) -> list[Message]:
        """Read to the end, and return all events."""
        while True:
            try:
                await self.next()
            except StopAsyncIteration:
                return self.messages

    async def _parse(self) -> AsyncGenerator[Message]:
        event: dict[str, str] = {}
        async for line in self.response.aiter_lines():
            if line:
                name, _, value = line.partition(":")
                self.fields.append((name, value.strip()))
                event[name] = value.strip()
                continue
            if "data" in event:
                yield Message(event["event"], event["id"], json.loads(event["data"]))
            event = {}


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, task_id: object, **options: Any) -> AsyncIterator[Stream]:
    """Open a task's event stream."""
    async with client.stream("GET", f"/v1/workload/{task_id}/events", **options) as response:
        yield Stream(response)
