"""Follow one task live: a WebSocket while there is one, polling while there is none.

Rules: `seq` only rises in what is handed out. The socket never decides that something is wrong, because a proxy on the
way can break it in many manners; the plain GET decides, and its problem is what the caller gets.
"""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from app.client.errors import ClientError, ServiceProblem
from app.client.retrying import Backoff
from app.domain.task import StatusDocument

# The standard library's, not structlog: a library in a user's program must not print unless it is asked to.
log = logging.getLogger("longhaul.client")

POLL_SECONDS = 5  # where an answer has no Retry-After
OPEN_SECONDS = 10.0
PING_SECONDS = 20.0
CLOSE_SECONDS = 2.0  # a caller who leaves early does not wait for the service's part of the closing handshake


@dataclass(frozen=True)
class Reading:
    """One poll's answer: the document (None: not changed), and when to ask again, in seconds."""

    document: StatusDocument | None
    retry_after: int | None


@dataclass(frozen=True)
class Socket:
    """Where the live stream of one task is."""

    url: str
    headers: Mapping[str, str]
    ssl_context: ssl.SSLContext | None

    async def documents(self) -> AsyncGenerator[StatusDocument]:
        """Yield what arrives, until the connection ends or breaks or cannot be opened: these are all the same here."""
        try:
            async with connect(
                self.url,
                additional_headers=self.headers,
                open_timeout=OPEN_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ssl=(self.ssl_context or True) if self.url.startswith("wss:") else None,
            ) as connection:
                async for message in connection:
                    document = document_in(message)
                    if document:
                        yield document
        # ValueError: a message that cannot be read; ImportError: a SOCKS proxy without the library for it.
        except (OSError, WebSocketException, ValueError, ImportError) as error:
            log.debug("live stream ended: %r", error)


def document_in(message: str | bytes) -> StatusDocument | None:
    """Return the document of a status message; None for every other kind, today's and tomorrow's.

    Raises:
        ValueError: It cannot be read.
    """
    content = json.loads(message)
    if not isinstance(content, dict):
        raise ValueError("a message must be an object")  # noqa: TRY004  # a peer's mistake, not a caller's
    return StatusDocument.model_validate(content.get("task")) if content.get("type") == "status" else None


def etag_of(document: StatusDocument) -> str:
    """Return the entity tag under which the service knows this document, for If-None-Match."""
    return f'W/"{document.seq}"'


def may_pass(error: ClientError) -> bool:
    """Whether a known task's watcher should go on asking after this failure of a poll.

    404 may pass: after Redis lost its data, a waiting task is not known again before its message is claimed.
    """
    if not isinstance(error, ServiceProblem):
        return True
    return error.status in {httpx.codes.NOT_FOUND, httpx.codes.TOO_MANY_REQUESTS} or error.status >= 500


class Newest:
    """The newest document that was seen."""

    def __init__(self, known: StatusDocument | None) -> None:
        self.document = known

    def takes(self, document: StatusDocument | None) -> bool:
        """Whether `document` is newer than all before; if so, it is the newest now."""
        if document is None or (self.document is not None and document.seq <= self.document.seq):
            return False
        self.document = document
        return True

    def is_last(self) -> bool:
        """Whether there is nothing to come."""
        return self.document is not None and self.document.status.is_terminal


Read = Callable[[StatusDocument | None], Awaitable[Reading]]
"""Asks once: given the newest document, returns what the service says."""


class Polling:
    """Asks the service for the status, never sooner than it allows, and bears failures for a bounded time.

    Attributes:
        due: When the next question may be asked, in monotonic seconds.
    """

    def __init__(self, read: Read, patience: timedelta) -> None:
        """Make the first question due now; patience counts from the first failure in a row."""
        self._read = read
        self._patience = patience.total_seconds()
        self._failing_since: float | None = None
        self.due = time.monotonic()

    def heard(self) -> None:
        """Note that the service has just shown the task, here or by the socket."""
        self._failing_since = None

    async def ask(self, newest: StatusDocument | None) -> StatusDocument | None:
        """Ask once, and return what came, if anything.

        Raises:
            ClientError: The failure, unless it is borne. None is borne before the first document.
        """
        wait: float | None
        try:
            reading = await self._read(newest)
        except ClientError as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if newest is None or not may_pass(error) or now - self._failing_since > self._patience:
                raise
            log.debug("the status cannot be read at the moment: %s", error)
            document, wait = None, error.retry_after if isinstance(error, ServiceProblem) else None
        else:
            self.heard()
            document, wait = reading.document, reading.retry_after
        self.due = time.monotonic() + (wait or POLL_SECONDS)
        return document


async def follow(
    socket: Socket, read: Read, *, known: StatusDocument | None, patience: timedelta
) -> AsyncGenerator[StatusDocument]:
    """Yield a task's documents, each newer than the one before, up to the terminal one.

    Args:
        socket: The live stream: tried first, and again after jittered, growing delays.
        read: Polls whenever there is no live stream.
        known: Yielded first.
        patience: How long failures are borne since the last good answer.

    Raises:
        ClientError: The poll's failure that was not borne.
    """
    newest, polling, backoff = Newest(known), Polling(read, patience), Backoff()
    socket_due = time.monotonic()
    if known:
        yield known
    while not newest.is_last():
        if time.monotonic() >= socket_due:
            async with aclosing(socket.documents()) as documents:
                async for document in documents:
                    polling.heard()
                    if newest.takes(document):
                        # News, not mere connections: one that is always closed at once must not be opened in a rush.
                        backoff.reset()
                        yield document
                        if newest.is_last():
                            return
            socket_due = time.monotonic() + backoff.next_delay()
        if time.monotonic() >= polling.due:
            answer = await polling.ask(newest.document)
            if answer and newest.takes(answer):
                yield answer
                continue  # it may have been the last
        await asyncio.sleep(max(0.0, min(socket_due, polling.due) - time.monotonic()))
