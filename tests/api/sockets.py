"""A WebSocket client that tells everything that it saw, down to the close code."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from tests.support.service import Service

PATIENCE = 10.0


class Socket:
    """An open socket, and what came over it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        self.messages.append(message)
        return message

    async def code(self) -> int | None:
        """Read to the end, which must come soon, whatever comes before it; return the close code."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await self.next()
        except ConnectionClosed:
            return self.connection.close_code

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The documents that came."""
        return [message["task"] for message in self.messages if message["type"] == "status"]


@asynccontextmanager
async def opened(
    service: Service,
    task_id: object,
    token: str | None = None,
    *,
    protocols: Sequence[str] = (),
    headers: Sequence[tuple[str, str]] = (),
    origin: str | None = None,
    query: str = "",
) -> AsyncIterator[Socket]:
    """Open a socket on a task, or on all of them (None), with the token in the Authorization header if one is given."""
    path = "/v1/workload/ws" if task_id is None else f"/v1/workload/{task_id}/ws"
    url = service.base_url.replace("http", "ws", 1) + path + query
    sent = [*headers, *([("Authorization", f"Bearer {token}")] if token is not None else [])]
    async with connect(
        url,
        additional_headers=sent,
        subprotocols=[Subprotocol(name) for name in protocols] or None,
        origin=Origin(origin) if origin else None,
        proxy=None,
        compression=None,
    ) as connection:
        yield Socket(connection)
