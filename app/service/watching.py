"""Watching: a snapshot first, then only what is newer, and of that only the latest.

A feed is what waits for one reader. Of each task only the newest document waits, and of log lines a bounded number:
memory is bounded, and a slow reader costs nobody else. What was missed is read again: after the subscription has been
interrupted at once, and else with the heartbeats, for Redis may have been emptied under a connection that stayed open.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from app.domain.errors import NotFound, Overloaded, Restarting, Unauthorized, Unavailable
from app.domain.log_line import LogLine
from app.domain.task import Task
from app.security.principal import Principal, Scope, authorize
from app.service.status import Statuses
from app.service.watcher_places import WatcherPlaces
from app.store.keys import owner_id
from app.store.subscriptions import Subscriptions
from app.store.task_logs import TaskLogs

HEARTBEAT_SECONDS: Final = 15.0
RETRY_SECONDS: Final = 1.0
"""After which a server that is away is asked again, with jitter."""
LINES_AT_ONCE: Final = 100
"""How many log lines wait for a reader; of one task, more are read from the store when the reader comes to them."""
NEWEST_LIVING: Final = 200
"""How many living tasks a reader of all is told at first."""
REMEMBERED: Final = 20_000
"""Of how many tasks it is known which state a reader of all has seen; about 150 bytes each."""
YEAR: Final = 366 * 86_400.0


class Heartbeat:
    """Nothing to tell but that the connection is alive."""


HEARTBEAT: Final = Heartbeat()

Event = Task | LogLine | Heartbeat


class Wire(Protocol):
    """A reader who can be handed an event on the spot.

    To wake its task instead takes a turn of the loop, in which all other readers' tasks wake, too: the first of a
    thousand waited for the last, and that was most of what a change took.
    """

    def is_free(self) -> bool:
        """Whether an event would leave at once; else it waits in the feed, where a newer one takes its place."""

    def take(self, event: Event) -> None:
        """Take an event, in order, and return at once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader who comes again has seen before."""

    seq: int
    line: int


class Watching:
    """Follows tasks on behalf of their owners."""

    def __init__(
        self, *, statuses: Statuses, subscriptions: Subscriptions, logs: TaskLogs, places: WatcherPlaces
    ) -> None:
        """Take what is watched.

        Args:
            statuses: Reads snapshots.
            subscriptions: Tell what is new.
            logs: The tasks' logs.
            places: Each feed holds one.
        """
        self._statuses = statuses
        self._subscriptions = subscriptions
        self._logs = logs
        self._places = places
        self._feeds: set[_Feed] = set()
        self._stopping = False

    @asynccontextmanager
    async def task(
        self, task_id: UUID, *, principal: Principal, seen: Seen | None = None, wire: Wire | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Follow a task until it has ended: the task as it is, its log, then every newer state that the reader is in
        time for, and every line. Each line that was written comes before the end; of a task that has ended already, a
        reader who comes for the first time is told only that.

        Args:
            task_id: The task.
            principal: Who asks.
            seen: What the reader has seen before: no older state and no earlier line comes again.
            wire: Takes events while the iterator is waited for; the iterator hands on the others.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`; before anything is subscribed to.
            StoreUnavailable: Redis does not answer.
            Overloaded: The owner has, or this process has, as many readers as it may.

        The iterator raises Unauthorized once the caller's token has expired, and Restarting when the process stops.
        """
        task = await self._statuses.read(task_id, principal=principal)
        feed = _TaskFeed(task_id, principal, Scope.READ, self._statuses, self._logs, seen, wire)
        async with self._open(feed, task.owner_id, principal, task_id) as events:
            yield events

    @asynccontextmanager
    async def everything(
        self, *, principal: Principal, wire: Wire | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Follow all of the caller's tasks: the newest 200 living ones, then whatever happens to any, without an end.

        Args:
            principal: Who asks.
            wire: As for `task`.

        Raises:
            InsufficientScope: The caller may not read.
            StoreUnavailable, Overloaded: As for `task`; and so are the iterator's errors.
        """
        owner = owner_id(authorize(principal, Scope.READ))
        async with self._open(_OwnerFeed(owner, self._statuses, wire), owner, principal, None) as events:
            yield events

    async def wait(
        self,
        task_id: UUID,
        *,
        principal: Principal,
        seconds: float,
        enough: Callable[[Task], bool],
        scope: Scope = Scope.READ,
    ) -> Task:
        """Return the task as soon as it is as wanted, or as it is when the time is over or the process stops.

        Args:
            task_id: The task.
            principal: Who asks.
            seconds: For how long at most.
            enough: Whether the task is as wanted.
            scope: What the caller's token must cover.

        Raises:
            NotFound, InsufficientScope, StoreUnavailable, Overloaded: As for `task`.
        """
        task = await self._statuses.read(task_id, principal=principal, scope=scope)
        if enough(task):
            return task
        feed = _TaskFeed(task_id, principal, scope, self._statuses, None, None, None)
        with suppress(TimeoutError, Restarting, Unauthorized):
            async with (
                asyncio.timeout(seconds),
                self._open(feed, task.owner_id, principal, task_id) as events,
            ):
                async for event in events:
                    if isinstance(event, Task):
                        task = event
                        if enough(task):
                            break
        return task

    def stop(self) -> None:
        """End all feeds, and open no more: the process is about to stop."""
        self._stopping = True
        for feed in self._feeds:
            feed.stop(Restarting())

    @asynccontextmanager
    async def _open(
        self, feed: "_Feed", owner: str, principal: Principal, task_id: UUID | None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        if self._stopping:
            raise Restarting
        with self._places.hold(owner):
            self._feeds.add(feed)
            try:
                async with self._subscriptions.listening(owner, feed, task_id=task_id):
                    await feed.start(principal)
                    async with aclosing(feed.events()) as events:
                        yield events
            finally:
                feed.close()
                self._feeds.discard(feed)


class _Feed(ABC):
    """What waits for one reader. It is told by callbacks, and handed on in the reader's own time."""

    def __init__(self, wire: Wire | None) -> None:
        self._wire = wire
        self._woken = asyncio.Event()
        self._is_idle = False
        """Whether all that came was handed on, and the iterator is waited for."""
        self._expiry: asyncio.TimerHandle | None = None
        self._heart: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._ended_by: Exception | None = None
        self._beat_due = False
        self._must_read = False
        self._must_fetch = False

    async def start(self, principal: Principal) -> None:
        """Read the first snapshot, and set the clocks."""
        await self._read()
        expired = Unauthorized("The token has expired.", token_was_sent=True)
        left = min(YEAR, max(0.0, principal.expires_at - time.time()))
        self._expiry = asyncio.get_running_loop().call_later(left, self.stop, expired)
        # The first one comes sooner, so that readers who came together do not read again together.
        first = HEARTBEAT_SECONDS * random.uniform(0.5, 1)  # noqa: S311
        self._heart = asyncio.get_running_loop().call_later(first, self._beat)

    def close(self) -> None:
        """Stop the clocks."""
        for timer in (self._expiry, self._heart, self._retry):
            if timer is not None:
                timer.cancel()

    def stop(self, reason: Exception) -> None:
        """End it: the reader is given the reason."""
        self._ended_by = self._ended_by or reason
        self._woken.set()

    def interrupted(self) -> None:
        """See `Listener`."""
        self._must_read = True
        self._woken.set()

    def _beat(self) -> None:
        self._beat_due = self._must_read = True
        self._heart = asyncio.get_running_loop().call_later(HEARTBEAT_SECONDS, self._beat)
        self._woken.set()

    async def events(self) -> AsyncGenerator[Event]:
        """Hand on what comes, until the feed ends."""
        while True:
            self._woken.clear()
            if self._is_over():  # the end went by the wire
                return
            if self._ended_by is not None:
                raise self._ended_by
            if self._must_read:
                await self._read_again()
            # No generator of its own for what waits: with a thousand readers each microsecond is a millisecond.
            while (event := self._next()) is not None or self._must_fetch:
                if event is None:
                    await self._fetch()
                    continue
                yield event
                if self._is_over():
                    return
            if self._beat_due:
                self._beat_due = False
                yield HEARTBEAT
            self._is_idle = True
            await self._woken.wait()
            self._is_idle = False

    def _hand_on(self) -> None:
        """Hand on what has come: by the wire if that is free, else by waking the reader's task."""
        # Who has been woken already, for whatever reason, comes first.
        if self._wire is not None and self._is_idle and not self._woken.is_set():
            while self._wire.is_free():
                event = self._next()
                if event is not None:
                    self._wire.take(event)
                    if self._is_over():
                        break
                elif self._must_fetch:
                    break
                else:
                    return
        self._woken.set()

    async def _read_again(self) -> None:
        self._must_read = False
        try:
            await self._read()
        except Unavailable:
            delay = RETRY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311  # spreads many readers
            if self._retry is not None:
                self._retry.cancel()
            self._retry = asyncio.get_running_loop().call_later(delay, self.interrupted)

    @abstractmethod
    async def _read(self) -> None:
        """Take a snapshot of what is watched.

        Raises:
            StoreUnavailable, ArchiveUnavailable: It cannot be had now.
        """

    @abstractmethod
    def _next(self) -> Event | None:
        """Take the next of what waits."""

    async def _fetch(self) -> None:
        """Read what is to be handed on before anything else, while `_must_fetch` says so."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        """Whether nothing more will come."""
        return False

    @abstractmethod
    def published(self, task: Task) -> None:
        """See `Listener`."""

    @abstractmethod
    def logged(self, lines: list[LogLine]) -> None:
        """See `Listener`."""


class _TaskFeed(_Feed):
    """One task, and its log; without a log it goes on beyond the task's end, for the task may run again."""

    def __init__(
        self,
        task_id: UUID,
        principal: Principal,
        scope: Scope,
        statuses: Statuses,
        logs: TaskLogs | None,
        seen: Seen | None,
        wire: Wire | None,
    ) -> None:
        super().__init__(wire)
        self._task_id = task_id
        self._principal = principal
        self._scope = scope
        self._statuses = statuses
        self._logs = logs
        self._comes_again = seen is not None
        self._newest: Task | None = None
        self._last: Task | None = None
        """What was handed on last."""
        self._is_first = True
        self._seq = seen.seq - 1 if seen else 0  # what was seen last is shown again: the current state comes first
        self._line = seen.line if seen else 0
        self._lines: deque[LogLine] = deque()
        self._must_fetch = logs is not None
        """Whether lines after `_line` are to be had from the store; until then no others are taken."""

    def published(self, task: Task) -> None:
        self._take(task)
        self._hand_on()

    def logged(self, lines: list[LogLine]) -> None:
        if self._logs is None or self._must_fetch:
            return
        known = self._lines[-1].line if self._lines else self._line
        fresh = [line for line in lines if line.line > known]
        if not fresh:
            return
        if fresh[0].line > known + 1 or len(self._lines) + len(fresh) > LINES_AT_ONCE:
            self._lines.clear()
            self._must_fetch = True
        else:
            self._lines.extend(fresh)
        self._hand_on()

    def interrupted(self) -> None:
        self._must_fetch = self._logs is not None
        super().interrupted()

    async def _read(self) -> None:
        try:
            task = await self._statuses.read(self._task_id, principal=self._principal, scope=self._scope)
        except NotFound:
            # A living task is never deleted: Redis was emptied, and the task's message will bring it back.
            if self._newest is None:
                raise
            return
        if self._take(task):
            self._must_fetch = self._logs is not None  # lines before it may have been missed, too

    def _take(self, task: Task) -> bool:
        if self._newest is not None and task.seq <= self._newest.seq:
            return False
        self._newest = task
        return True

    def _is_over(self) -> bool:
        return self._logs is not None and self._last is not None and self._last.status.is_terminal

    def _next(self) -> Event | None:
        first, self._is_first = self._is_first, False
        if first and (not self._has_ended() or not self._comes_again):
            return self._fresh()
        if self._lines:
            line = self._lines.popleft()
            self._line = line.line
            return line
        if self._must_fetch:
            return None  # every line comes before the end
        return self._fresh()

    def _has_ended(self) -> bool:
        return self._newest is not None and self._newest.status.is_terminal

    def _fresh(self) -> Task | None:
        """Return the newest state, unless it was handed on already."""
        task = self._newest
        if task is None or task.seq <= self._seq:
            return None
        self._seq, self._last = task.seq, task
        return task

    async def _fetch(self) -> None:
        """Read lines from the store, as many as may wait; should it be away, the end does not wait for them."""
        if self._logs is None or not self._must_fetch:
            return
        self._must_fetch = False  # what is published from here on is taken, and held against what is read
        try:
            fetched = await self._logs.read(self._task_id, after=self._line, limit=LINES_AT_ONCE)
        except Unavailable:
            return
        if len(fetched) == LINES_AT_ONCE:
            self._must_fetch = True
        elif not self._must_fetch:
            last = fetched[-1].line if fetched else self._line
            fetched += [line for line in self._lines if line.line > last]
        self._lines = deque(fetched)


class _OwnerFeed(_Feed):
    """All tasks of one owner, and their logs."""

    def __init__(self, owner: str, statuses: Statuses, wire: Wire | None) -> None:
        super().__init__(wire)
        self._owner = owner
        self._statuses = statuses
        self._waiting: dict[UUID, Task] = {}
        self._seen: dict[UUID, tuple[int, bool]] = {}
        """Of each task, the seq that was handed on or waits, and whether it was the end; the last changed one last."""
        self._lines: deque[LogLine] = deque(maxlen=LINES_AT_ONCE)
        self._has_gap = True

    def published(self, task: Task) -> None:
        self._take(task)
        self._hand_on()

    def logged(self, lines: list[LogLine]) -> None:
        self._lines.extend(lines)
        self._hand_on()

    def interrupted(self) -> None:
        self._has_gap = True
        super().interrupted()

    async def _read(self) -> None:
        """Read what may have been missed; with a heartbeat only the end of what was alive."""
        living = [task_id for task_id, (_, ended) in self._seen.items() if not ended]
        if self._has_gap:
            for task in await self._statuses.newest_living(self._owner, limit=NEWEST_LIVING):
                self._take(task)
        for task in await self._statuses.states_of(self._owner, living, only_ended=not self._has_gap):
            self._take(task)
        self._has_gap = False

    def _take(self, task: Task) -> None:
        seq, _ = self._seen.get(task.id, (0, False))
        if task.seq <= seq:
            return
        self._seen.pop(task.id, None)
        self._seen[task.id] = (task.seq, task.status.is_terminal)
        self._waiting[task.id] = task
        if len(self._seen) > REMEMBERED:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            if oldest in self._waiting:
                self.stop(Overloaded("More is waiting for this reader than can be kept."))

    def _next(self) -> Event | None:
        if self._lines:
            return self._lines.popleft()
        if self._waiting:
            return self._waiting.pop(next(iter(self._waiting)))
        return None
