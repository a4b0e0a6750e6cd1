"""Group commit: callers that come while a group is under way share the next one.

A commit costs the same for one row as for a hundred (a flush to disk, a round trip), so nobody who comes alone waits
for company, and nobody who comes in a crowd pays alone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final, Generic, TypeVar

from app.domain.errors import ArchiveUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

IN_FLIGHT: Final = 2
"""Groups under way at a time: while one waits for the disk, the next is made and sent."""


class Groups(Generic[Item, Answer]):
    """One kind of work, done for whole groups of callers.

    A group is what has come by the time the event loop turns: who comes alone is served at once. A caller that is
    cancelled leaves its group alone; whether its item was done is then not known. All callers are of one event loop.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[list[Answer]]],
        *,
        name: str,
        largest: int,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Take the work.

        Args:
            work: Answers a group's items, in their order. When it fails it must have done nothing, or what may be
                repeated. ArchiveUnavailable fails the whole group. After any other error the group is halved again and
                again, so that an item that cannot be done fails its own caller only.
            name: How the side tasks are called.
            largest: Items in a group at most.
            in_flight: Groups under way at most.
        """
        self._work = work
        self._name = name
        self._largest = largest
        self._in_flight = in_flight
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._leaders = 0
        self._not_begun = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def do(self, item: Item) -> Answer:
        """Have an item done, with whoever else is waiting.

        Raises:
            ArchiveUnavailable: It may or may not have been done.
        """
        if self._closed:
            raise ArchiveUnavailable("The archive is closed.")
        if self._loop is None:  # to ask for it is a system call (Python 3.11)
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((item, future))
        # A leader that has not begun yet takes all that comes before the loop turns to it, as far as its group goes.
        if self._leaders < self._in_flight and len(self._waiting) > self._not_begun * self._largest:
            self._leaders += 1
            self._not_begun += 1
            # A context of its own: the first caller's request id has no business in the others' work.
            task = self._loop.create_task(self._lead(), name=self._name, context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def close(self) -> None:
        """Take nothing more, and return when everything taken is answered. May be called again."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _lead(self) -> None:
        self._not_begun -= 1
        try:
            while self._waiting:
                await self._serve(self._next_group())
        finally:
            # In the same turn as the last look at those who wait: none can come in between and find nobody to lead.
            self._leaders -= 1

    def _next_group(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        group: list[tuple[Item, asyncio.Future[Answer]]] = []
        while self._waiting and len(group) < self._largest:
            item, future = self._waiting.popleft()
            if not future.done():  # else its caller has left before it began
                group.append((item, future))
        return group

    async def _serve(self, group: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not group:
            return
        try:
            answers = await self._work([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait for it
            if len(group) > 1 and not isinstance(error, ArchiveUnavailable):
                middle = len(group) // 2
                await self._serve(group[:middle])
                await self._serve(group[middle:])
                return
            for _, future in group:
                if not future.done():
                    future.set_exception(_own(error))
        else:
            for (_, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        finally:
            for _, future in group:
                future.cancel()  # those still waiting: this leader was cancelled, since the loop ends


def _own(error: Exception) -> Exception:
    """Return an error for one caller: a shared one would gather the tracebacks of all who raise it."""
    if not isinstance(error, ArchiveUnavailable):
        return error
    own = ArchiveUnavailable(error.detail)
    own.__cause__ = error.__cause__ or error
    return own
