"""Administration: what operators see of everybody's tasks, and what they may do with queues and dead letters.

Never a payload and never a result. Whoever comes here has the scope `workload:admin`; each change is one line in the
log, with who did it and why.
"""

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from app.archive.archive import Archive, EndedTask
from app.archive.deliveries import Listed
from app.archive.pauses import Pause
from app.broker.connection import BrokerConnection, connect
from app.broker.dead_letters import DeadLetter, dead_letters
from app.broker.topology import QueueState, queue_states
from app.domain.errors import BrokerUnavailable, Conflict, NotFound, ValidationFailed
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds
from app.domain.problem import FieldError
from app.domain.task import Task
from app.observability.logging import get_log
from app.security.principal import Principal, Scope, authorize
from app.service.announcing import Announcements
from app.service.dead_letters import DeadLetterDesk
from app.settings import TlsSettings
from app.store.census import Census, Count, Holder, Population, Stalled
from app.store.tasks import TaskStore
from app.store.workers import WorkerReport, Workers

RATE_SPAN: Final = timedelta(seconds=30)
"""Over how long rates are taken."""
FRESH_SECONDS: Final = 1.0
"""For how long one look at the queues serves everybody who asks, at least."""
REST: Final = 10
"""… and for how many times as long as it took: with 200,000 living tasks it took 2 s, of Redis' time, on two cores that
had other work. So operators cost Redis a tenth of its time at most."""
LETTERS: Final = 10_000
"""How many dead letters are gone through to find one."""
LIVING: Final = frozenset({TaskStatus.PENDING, TaskStatus.PROCESSING})

log = get_log("administration")


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """How a queue is doing."""

    name: str
    load: int
    """Due PENDING and PROCESSING, those in a delay queue included: what must be worked off."""
    ready: int | None
    """Messages that wait in the broker; None while it does not answer."""
    running: int
    parked: int
    """PENDING, and not to begin before a later time."""
    consumers: int | None
    in_per_second: float
    """Submissions, as the mean of RATE_SPAN."""
    out_per_second: float
    """Ends, likewise."""
    depth_limit: int
    paused: Pause | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as an operator sees it."""

    task: Task
    holder: Holder | None = None
    stalled: Stalled | None = None


@dataclass(frozen=True, slots=True)
class SeenPage:
    """A stretch of a list, and where the next one begins."""

    tasks: list[Seen]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks are wanted; an empty collection leaves that open."""

    statuses: Collection[TaskStatus] = field(default=())
    actions: Collection[str] = field(default=())
    labels: Collection[str] = field(default=())


class Administration:
    """Answers operators."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        census: Census,
        workers: Workers,
        archive: Archive,
        connection: BrokerConnection,
        amqp_url: str,
        tls: TlsSettings,
        desk: DeadLetterDesk,
        announcements: Announcements,
        depth_limits: Mapping[str, int],
        queue_of: Mapping[str, str],
    ) -> None:
        """Take what is looked at.

        Args:
            tasks: The living tasks.
            census: Counts them.
            workers: Their heartbeats.
            archive: The ended ones.
            connection: For looking at queues.
            amqp_url: For connections of its own, over which dead letters are taken in hand.
            tls: How these are checked.
            desk: Redrives them.
            announcements: Sends webhooks again.
            depth_limits: Of every queue.
            queue_of: Action to queue.
        """
        self._tasks = tasks
        self._census = census
        self._workers = workers
        self._archive = archive
        self._connection = connection
        self._amqp_url = amqp_url
        self._tls = tls
        self._desk = desk
        self._announcements = announcements
        self._depth_limits = depth_limits
        self._queue_of = queue_of
        self._looking = asyncio.Lock()
        self._looked: tuple[list[QueueFigures], Count] | None = None
        self._fresh_until = 0.0
        self._letters = asyncio.Lock()

    # --- seeing

    async def queues(self, *, principal: Principal) -> list[QueueFigures]:
        """Return how every queue is doing."""
        authorize(principal, Scope.ADMIN)
        figures, _ = await self._look()
        paused = await self._archive.pauses.all()
        return [replace(one, paused=paused.get(one.name)) for one in figures]

    async def queue(self, name: str, *, principal: Principal) -> QueueFigures:
        """Return how one queue is doing.

        Raises:
            NotFound: There is none of this name.
        """
        for figures in await self.queues(principal=principal):
            if figures.name == name:
                return figures
        raise NotFound

    async def workers(self, *, principal: Principal) -> list[WorkerReport]:
        """Return the living workers, the oldest first."""
        authorize(principal, Scope.ADMIN)
        return await self._workers.all()

    async def stalled(self, *, principal: Principal) -> list[Seen]:
        """Return the living tasks that do not get on, the longest-stalled first."""
        authorize(principal, Scope.ADMIN)
        _, count = await self._look()
        found = {one.task_id: one for one in sorted(count.stalled, key=lambda one: one.since)}
        return [
            Seen(seen.task, seen.holder, found[seen.task.id])
            for seen in await self._held(await self._tasks.find_many(list(found)) if found else [])
            if not seen.task.status.is_terminal
        ]

    async def task(self, task_id: UUID, *, principal: Principal) -> Seen:
        """Return anybody's task.

        Raises:
            NotFound: There is none.
        """
        authorize(principal, Scope.ADMIN)
        task = await self._tasks.find(task_id)
        if task is None:
            known = await self._archive.find(task_id)
            task = known.task if isinstance(known, EndedTask) else None
        if task is None:
            raise NotFound
        return (await self._held([task]))[0]

    async def page(self, wanted: Wanted, *, principal: Principal, limit: int, cursor: str | None) -> SeenPage:
        """Return everybody's tasks: the living ones first, the newest first; then the ended ones, the latest first.

        Raises:
            ValidationFailed: The cursor is none of ours.
        """
        authorize(principal, Scope.ADMIN)
        part, before = _read_cursor(cursor) if cursor is not None else ("living", None)
        found: list[Seen] = []
        if part == "living":
            found = await self._page_of_living(wanted, before, limit + 1)
            if len(found) > limit:
                return SeenPage(found[:limit], _cursor("living", found[limit - 1].task))
            before = None
        room = limit - len(found)
        ended = await self._page_of_ended(wanted, before, room + 1)
        if len(ended) <= room:
            return SeenPage(found + ended, None)
        if room == 0:  # the living ones fill the page exactly: the next one begins with the first of the ended
            return SeenPage(found, _START_OF_ENDED)
        return SeenPage(found + ended[:room], _cursor("ended", ended[room - 1].task))

    async def _page_of_living(self, wanted: Wanted, before: "Place | None", limit: int) -> list[Seen]:
        statuses = LIVING & set(wanted.statuses) if wanted.statuses else LIVING
        if not statuses:
            return []
        ids = await self._census.newest(
            before=before, statuses=statuses, actions=wanted.actions, labels=wanted.labels, limit=limit
        )
        # One that has ended since comes again from the archive, at the top of what has ended.
        return await self._held(await self._tasks.find_many(ids) if ids else [])

    async def _page_of_ended(self, wanted: Wanted, before: "Place | None", limit: int) -> list[Seen]:
        statuses = set(wanted.statuses) - LIVING
        if wanted.statuses and not statuses:
            return []
        rows = await self._archive.latest(
            before=before, statuses=statuses, actions=wanted.actions, labels=wanted.labels, limit=limit
        )
        return [Seen(task) for task in rows]

    async def _held(self, tasks: Collection[Task | None]) -> list[Seen]:
        there = [task for task in tasks if task is not None]
        running = [task.id for task in there if task.status is TaskStatus.PROCESSING]
        holders = dict(zip(running, await self._census.holders(running) if running else [], strict=True))
        return [Seen(task, holders.get(task.id)) for task in there]

    async def _look(self) -> tuple[list[QueueFigures], Count]:
        async with self._looking:
            began = time.monotonic()
            if self._looked is None or began > self._fresh_until:
                self._looked = await self._figures()
                ended = time.monotonic()
                self._fresh_until = ended + max(FRESH_SECONDS, REST * (ended - began))
            return self._looked

    async def _figures(self) -> tuple[list[QueueFigures], Count]:
        since = datetime.now(UTC) - RATE_SPAN
        count, states, ended = await asyncio.gather(
            self._census.count(since=since), self._states(), self._archive.ended_since(since)
        )
        created: dict[str, int] = {}
        gone: dict[str, int] = {}
        for action, ends in ended.items():
            queue = self._queue_of.get(action, "")
            created[queue] = created.get(queue, 0) + ends.created
            gone[queue] = gone.get(queue, 0) + ends.ended
        span = RATE_SPAN.total_seconds()
        figures = []
        for name, limit in self._depth_limits.items():
            population, state = count.queues.get(name, Population()), states.get(name)
            figures.append(
                QueueFigures(
                    name=name,
                    load=population.due + population.running,
                    ready=state.ready if state else None,
                    running=population.running,
                    parked=population.parked,
                    consumers=state.consumers if state else None,
                    in_per_second=round((population.new + created.get(name, 0)) / span, 2),
                    out_per_second=round(gone.get(name, 0) / span, 2),
                    depth_limit=limit,
                )
            )
        return figures, count

    async def _states(self) -> dict[str, QueueState]:
        """Ask the broker; while it is away, nothing is known of its queues, and the rest is told all the same."""
        connection = self._connection.current
        if connection is None:
            return {}
        try:
            return await queue_states(connection, self._depth_limits)
        except BrokerUnavailable:
            return {}

    # --- tasks

    async def requeue(self, task_id: UUID, *, principal: Principal, reason: str) -> Seen:
        """Take a running task from its worker: it goes on from its last checkpoint, at another one or the same.

        Nothing is charged. The worker learns of it at its next beat, stops, and gives the message back, which brings
        the task up again; should it be stuck, housekeeping sends another message.

        Raises:
            NotFound: There is no such task.
            Conflict: Nobody works at it.
        """
        seen = await self.task(task_id, principal=principal)
        attempt = await self._tasks.attempt_of(task_id)
        if attempt is not None:
            run, token = attempt
            ended = await self._archive.find(task_id, run=run)
            if isinstance(ended, EndedTask):
                await self._tasks.settle(ended.task)
            elif await self._tasks.requeue(task_id, run, token):
                worker = seen.holder.worker if seen.holder else None
                self._audit("requeued", principal, reason, task_id=str(task_id), worker=worker)
                return await self.task(task_id, principal=principal)
        raise Conflict("Nobody works at the task.")

    async def deliveries(self, task_id: UUID, *, principal: Principal) -> list[Listed]:
        """Return the attempts at the webhooks of anybody's task, the newest first; raises like `task`."""
        await self.task(task_id, principal=principal)
        return await self._archive.deliveries.of_task(task_id)

    async def redeliver(self, task_id: UUID, delivery_id: str, *, principal: Principal, reason: str) -> str:
        """Send the webhook of an earlier attempt again, and return its id.

        Raises:
            NotFound: There is no such attempt at one of this task's webhooks.
        """
        authorize(principal, Scope.ADMIN)
        webhook_id = await self._announcements.again(task_id, delivery_id)
        self._audit("redelivered", principal, reason, task_id=str(task_id), webhook_id=webhook_id)
        return webhook_id

    # --- queues

    def require_queue(self, name: str, *, principal: Principal) -> None:
        """Check that there is a queue of this name.

        Raises:
            NotFound: There is none.
        """
        authorize(principal, Scope.ADMIN)
        if name not in self._depth_limits:
            raise NotFound

    async def pause(self, name: str, *, principal: Principal, reason: str) -> None:
        """Let no worker take anything from a queue, from a few seconds on and until it is resumed.

        What runs goes on to its end; submissions are accepted, up to the queue's depth limit. A queue that is paused
        already stays as it is.

        Raises:
            NotFound: There is none of this name.
            ArchiveUnavailable: It may be paused; repeat it.
        """
        self.require_queue(name, principal=principal)
        await self._archive.pauses.pause(name, Pause(datetime.now(UTC), _name_of(principal), reason))
        self._audit("paused", principal, reason, queue=name)

    async def resume(self, name: str, *, principal: Principal, reason: str) -> None:
        """Let workers take from a queue again, from a few seconds on. Raises like `pause`."""
        self.require_queue(name, principal=principal)
        await self._archive.pauses.resume(name)
        self._audit("resumed", principal, reason, queue=name)

    # --- dead letters

    async def dead_letters(self, *, principal: Principal, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters. They stay where they are.

        Raises:
            BrokerUnavailable: The broker does not answer.
        """
        authorize(principal, Scope.ADMIN)
        async with self._in_hand(limit) as letters:
            return letters

    async def redrive(self, letter_id: str, *, principal: Principal, reason: str) -> UUID | None:
        """Run the task of a dead letter again, from its last checkpoint, and remove the letter.

        Returns:
            The task that runs again; None if it needs no more: it was deleted, or has been retried since.

        Raises:
            NotFound: There is no such letter.
            BrokerUnavailable, QueueFull, StoreUnavailable, ArchiveUnavailable, OutcomeUnknown: The letter stays.
        """
        authorize(principal, Scope.ADMIN)
        async with self._one_in_hand(letter_id) as letter:
            runs_again = await self._desk.redrive(letter)
        self._audit("redriven", principal, reason, letter=letter_id, task_id=letter.task_id, runs=bool(runs_again))
        return runs_again

    async def purge(self, letter_id: str, *, principal: Principal, reason: str) -> None:
        """Remove a dead letter for good. Its task stays FAILED, and its owner may still retry it.

        Raises:
            NotFound: There is no such letter.
            BrokerUnavailable: The broker does not answer.
        """
        authorize(principal, Scope.ADMIN)
        async with self._one_in_hand(letter_id) as letter:
            await letter.remove()
        self._audit("purged", principal, reason, letter=letter_id, task_id=letter.task_id)

    @asynccontextmanager
    async def _in_hand(self, limit: int) -> AsyncIterator[list[DeadLetter]]:
        # One after the other: what one request has in hand, another would not find.
        async with (
            self._letters,
            await connect(self._amqp_url, name="longhaul api, dead letters", tls=self._tls) as connection,
            dead_letters(connection, limit=limit) as letters,
        ):
            yield letters

    @asynccontextmanager
    async def _one_in_hand(self, letter_id: str) -> AsyncIterator[DeadLetter]:
        async with self._in_hand(LETTERS) as letters:
            for letter in letters:
                if letter_id in (letter.id, str(letter.task_id)):
                    yield letter
                    return
            raise NotFound

    @staticmethod
    def _audit(what: str, principal: Principal, reason: str, **fields: object) -> None:
        log.warning("audit", change=what, who=_name_of(principal), why=reason, **fields)


def _name_of(principal: Principal) -> str:
    return f"{principal.owner.issuer} {principal.owner.subject}"


Part = Literal["living", "ended"]
Place = tuple[int, str]
"""Where a task stands in its part of the list: `created_at` or `finished_at` in ms, and its id."""


def _cursor(part: Part, task: Task) -> str:
    stands_by = task.created_at if part == "living" else task.finished_at
    assert stands_by is not None
    return _encoded(f"{part}:{milliseconds(stands_by)}:{task.id}")


def _encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


_START_OF_ENDED: Final = _encoded("ended::")


def _read_cursor(cursor: str) -> tuple[Part, Place | None]:
    try:
        part, at, task_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(":")
        place = (int(at), str(UUID(task_id))) if at else None
    except ValueError:
        part, place = "", None
    if part == "living" and place:
        return "living", place
    if part == "ended":
        return "ended", place
    wrong = FieldError(parameter="cursor", detail="This is not a cursor that a list has returned.")
    raise ValidationFailed("The cursor is broken.", errors=[wrong])
