"""LonghaulClient: the calls that a user of the service makes."""

import json
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload
from uuid import UUID

import httpx

from app.client.downloading import OnBytes, download_result
from app.client.errors import UnexpectedAnswer, retry_after_of
from app.client.models import AcceptedTask, Page
from app.client.retrying import OnRetry
from app.client.transport import Transport, read_as
from app.client.watching import Reading, Socket, etag_of, follow
from app.domain.task import ResultDescription, StatusDocument, rfc3339, status_path

TIMEOUT = httpx.Timeout(connect=5.0, read=30.0, write=30.0, pool=5.0)  # seconds, for each step of an exchange
LARGEST_PAGE = 200
KEY_LENGTH = 255
LAST_PORT = 65_535

Filter = Sequence[str]
"""Values of one query parameter; a TaskStatus is one as well."""


class LonghaulClient:
    """An open way to one service, for one caller; an async context manager.

    Safe to share between tasks of one event loop. Cancelling a call is safe at any point: a submission that was
    cancelled in flight may have been accepted, and sending it again with its Idempotency-Key says so.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        patience: timedelta = timedelta(seconds=60),
        watch_patience: timedelta = timedelta(minutes=10),
        ssl_context: ssl.SSLContext | None = None,
        on_retry: OnRetry | None = None,
    ) -> None:
        """Prepare; nothing connects before the first call.

        Args:
            base_url: `http://` or `https://`, a path prefix allowed. Proxies of the environment are used.
            token: The bearer token, or a `task_token` for the calls that it opens.
            patience: How long one call may go on trying while the service is away or busy.
            watch_patience: How long `watch` bears with a service that is away, or that has forgotten the task.
            ssl_context: Trusts other authorities than the system's, or presents a client's certificate.
            on_retry: Called before each wait with the failure and the seconds until the next try.

        Raises:
            ValueError: The URL or the token cannot be used at all.
        """
        self.base_url = _checked_url(base_url)
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("the token must be printable ASCII without spaces")
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._patience = patience
        self._watch_patience = watch_patience
        self._ssl_context = ssl_context
        self._on_retry = on_retry
        self._opened = AsyncExitStack()
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        http = httpx.AsyncClient(
            base_url=self.base_url,
            headers=self._authorization,
            timeout=TIMEOUT,
            verify=self._ssl_context or True,
            follow_redirects=False,  # the contract has none, and the token goes nowhere else
        )
        await self._opened.enter_async_context(http)
        self._transport = Transport(http, base_url=self.base_url, patience=self._patience, on_retry=self._on_retry)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport = None
        await self._opened.aclose()

    @property
    def _way(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("use LonghaulClient in an `async with`")
        return self._transport

    async def submit(
        self,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        labels: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> AcceptedTask:
        """Hand in a task; when this returns, it is durable.

        With an Idempotency-Key every failure of the way is tried again within the client's patience. Without one, only
        those that promise that nothing was accepted: no connection, 429, `queue-full`, `broker-unavailable`.

        Args:
            action: Its name.
            params: The action's own fields and the envelope's (`max_attempts` …), as JSON values.
            labels: To find the task again.
            idempotency_key: 1 to 255 visible ASCII characters; the same key and body give the same task.

        Returns:
            The status document with the `task_token`; `replayed` tells that the key was known.

        Raises:
            ServiceProblem: Refused; see its `slug` and `errors`.
            Unreachable: No answer; its `outcome_is_unknown` says whether the task may have been accepted.
            ValueError: The arguments are no JSON, name something twice, or the key is malformed.
        """
        body = {"action": action, **(params or {})}
        if body["action"] != action or (labels and "labels" in body):
            raise ValueError("action and labels are arguments of their own, not params as well")
        if labels:
            body["labels"] = list(labels)
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = _checked_key(idempotency_key)
        response = await self._way.send(
            "POST",
            "v1/workload",
            is_idempotent=idempotency_key is not None,
            headers=headers,
            content=json.dumps(body, allow_nan=False, separators=(",", ":")).encode(),
        )
        accepted = read_as(AcceptedTask, response)
        return accepted.model_copy(update={"replayed": response.headers.get("Idempotent-Replayed") == "true"})

    @overload
    async def status(self, task_id: UUID | str) -> StatusDocument: ...
    @overload
    async def status(self, task_id: UUID | str, *, etag: str) -> StatusDocument | None: ...
    async def status(self, task_id: UUID | str, *, etag: str | None = None) -> StatusDocument | None:
        """Read a task's status document.

        Args:
            task_id: Whose.
            etag: What `etag_of` says of a document in hand; None is returned while that is still the newest.

        Raises:
            ServiceProblem: `not-found` for an unknown, an expired and another caller's task alike.
        """
        return (await self._read(_uuid(task_id), etag=etag)).document

    async def _read(self, task_id: UUID, *, etag: str | None = None, retries: bool = True) -> Reading:
        response = await self._way.send(
            "GET",
            status_path(task_id).lstrip("/"),
            is_idempotent=True,
            retries=retries,
            headers={"If-None-Match": etag} if etag else None,
        )
        unchanged = response.status_code == httpx.codes.NOT_MODIFIED
        document = None if unchanged else read_as(StatusDocument, response)
        return Reading(document, retry_after_of(response))

    async def pages(
        self,
        *,
        status: Filter = (),
        action: Filter = (),
        label: Filter = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page_size: int = 50,
    ) -> AsyncGenerator[Page]:
        """List the caller's tasks page by page, the newest first.

        Args:
            status: Any of these.
            action: Any of these.
            label: All of these.
            created_after: Inclusive, with a time zone.
            created_before: Exclusive, with a time zone.
            page_size: 1 to 200.
        """
        query = [("limit", str(page_size))]
        for name, values in {"status": status, "action": action, "label": label}.items():
            query += [(name, str(value)) for value in values]
        query += [("created_after", rfc3339(created_after))] if created_after else []
        query += [("created_before", rfc3339(created_before))] if created_before else []
        cursor: str | None = None
        while True:
            here = [("cursor", cursor)] if cursor else []
            page = read_as(Page, await self._way.send("GET", "v1/workload", is_idempotent=True, params=query + here))
            yield page
            if page.next_cursor is None:
                return
            if page.next_cursor == cursor:
                raise UnexpectedAnswer("v1/workload: the list does not move on from its cursor")
            cursor = page.next_cursor

    async def list(
        self, *, status: Filter = (), action: Filter = (), label: Filter = (), limit: int | None = None
    ) -> AsyncGenerator[StatusDocument]:
        """List the caller's tasks, the newest first, over as many pages as needed.

        Args:
            status: Any of these.
            action: Any of these.
            label: All of these.
            limit: At most so many tasks; None for all.
        """
        left = limit
        size = min(limit or LARGEST_PAGE, LARGEST_PAGE)
        if limit is not None and limit < 1:
            return
        async with aclosing(self.pages(status=status, action=action, label=label, page_size=size)) as pages:
            async for page in pages:
                for document in page.items[:left]:
                    yield document
                if left is not None:
                    left -= len(page.items)
                    if left <= 0:
                        return

    async def watch(self, task: UUID | str | StatusDocument) -> AsyncGenerator[StatusDocument]:
        """Follow a task: each document is newer than the one before, the last one is terminal.

        Live over a WebSocket; by polling while none can be opened. A restart of the service is bridged, and so is a 404
        for a task that is known, for `watch_patience`: a waiting task may be forgotten for a while when Redis lost its
        data. Leave the loop early inside `contextlib.aclosing`, so that the socket is closed there and then.

        Args:
            task: Its id; or the newest document in hand, which comes first and proves that the task exists.

        Raises:
            ServiceProblem: The task cannot be read (any more).
            Unreachable, UnexpectedAnswer: The service stayed away.
        """
        known = task if isinstance(task, StatusDocument) else None
        task_id = task.task_id if isinstance(task, StatusDocument) else _uuid(task)
        socket = Socket(
            f"ws{self.base_url.removeprefix('http')}v1/workload/{task_id}/ws", self._authorization, self._ssl_context
        )

        async def read(newest: StatusDocument | None) -> Reading:
            # Later failures are borne by `follow`, which keeps its own time; a first one is the answer to the caller.
            return await self._read(task_id, etag=etag_of(newest) if newest else None, retries=newest is None)

        async with aclosing(follow(socket, read, known=known, patience=self._watch_patience)) as documents:
            async for document in documents:
                yield document

    async def download(
        self, task_id: UUID | str, target: Path, *, on_bytes: OnBytes | None = None
    ) -> ResultDescription:
        """Fetch a COMPLETED task's result file. `target` appears, or is replaced, only when all of it is verified.

        Bytes are kept beside it in `<target>.<sha256, 12 digits>.part`; a broken connection is resumed there, within
        this call and by a later one.

        Args:
            task_id: Whose.
            target: The file's path; its directory must exist.
            on_bytes: Called with the bytes that are there and the size.

        Returns:
            What the file is.

        Raises:
            ServiceProblem: `not-finished`, `conflict` (it did not complete), `not-found` (no file), `gone`.
            ResultCorrupt: The bytes are not those that the status document promises.
            Unreachable: The connection kept breaking without any progress.
            OSError: The file cannot be written.
        """
        document = await self.status(task_id)
        return await download_result(self._way, document, target, on_bytes=on_bytes)


def _uuid(task_id: UUID | str) -> UUID:
    return task_id if isinstance(task_id, UUID) else UUID(task_id)


def _checked_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{base_url!r} is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > LAST_PORT:
        raise ValueError(f"{base_url!r} must begin with http:// or https:// and name a host, with a port that exists")
    if url.userinfo or url.query or url.fragment:
        # Credentials in the URL would take the place of the token.
        raise ValueError("the URL must have neither credentials nor a query nor a fragment")
    return str(url).rstrip("/") + "/"


def _checked_key(key: str) -> str:
    if not 1 <= len(key) <= KEY_LENGTH or not all("!" <= character <= "~" for character in key):
        raise ValueError(f"an idempotency key is 1 to {KEY_LENGTH} visible ASCII characters")
    return key
