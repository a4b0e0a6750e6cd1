"""Archive: how tasks ended, for whoever ends one, starts one or reads one.

A row is the end: once `insert` has returned, the task has ended, whatever Redis shows. Every method may be repeated.
"""

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, select

from app.archive import deliveries, endings, operations, questions, retention
from app.archive.batching import Groups
from app.archive.endings import Key, Sent
from app.archive.engine import POOL_SIZE, TIMEOUT, Database, open_database
from app.archive.operations import EndedCount
from app.archive.pauses import Pauses
from app.archive.questions import Listed, Question
from app.archive.retention import ExpiredResult
from app.archive.rows import Bar, Doubted, EndedTask, Forgotten, Known, Refused, Row, row_of
from app.archive.schema import require_current
from app.domain.errors import ArchiveUnavailable
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds
from app.domain.task import Task

__all__ = [
    "Archive",
    "Bar",
    "Doubted",
    "EndedCount",
    "EndedTask",
    "ExpiredResult",
    "Forgotten",
    "Known",
    "Refused",
    "open_archive",
]

Given = tuple[Row, EndedTask]
Place = tuple[int, str]
"""Where a task stands in a list: its `created_at` in ms, and its id."""

LARGEST: Final = 100
"""Items in a group at most: from here on a larger group brings little, and holds the writer longer."""


class Archive:
    """The archive. Every method raises ArchiveUnavailable when no answer comes in time; it may have been done then."""

    def __init__(self, database: Database) -> None:
        """Take the database; `open_archive` does it."""
        self._database = database
        self._inserts: Groups[Given, EndedTask | None] = Groups(self._insert, name="archive inserts", largest=LARGEST)
        self._questions: Groups[Question, Known] = Groups(self._ask, name="archive questions", largest=LARGEST)
        self._doubts: Groups[Sent, None] = Groups(self._doubt, name="archive doubts", largest=LARGEST)
        self._refusals: Groups[Sent, bool] = Groups(self._refuse, name="archive refusals", largest=LARGEST)
        self.deliveries = deliveries.Deliveries(database)
        """What is told to callers of all this, and how it went."""
        self.pauses = Pauses(database)
        """The queues that operators have paused."""

    async def close(self) -> None:
        """Take no more rows or questions, and return when those that were taken are answered."""
        for groups in (self._inserts, self._questions, self._doubts, self._refusals, self.deliveries):
            await groups.close()

    # --- ending

    async def insert(self, ended: EndedTask) -> EndedTask | None:
        """Write how a run ended, unless it has ended already; many callers share a transaction.

        A cancelled caller's row may be written all the same.

        Returns:
            The run's end: the row that was first, this one or an earlier one. None: the task is forgotten, nothing was
            written and nothing may be told.

        Raises:
            ArchiveUnavailable: It may or may not have been written: repeat it, the first one counts.
            LonghaulError: The database refuses these values; repeating it is of no use.
        """
        return await self._inserts.do((row_of(ended), ended))

    async def forget(self, task_id: UUID, owner_id: str) -> bool:
        """Delete all that is known of an owner's ended task, and bar it from ever coming back.

        Its result file is the caller's to remove (see `results_removed`); until then `expired_results` names it.

        Returns:
            Whether it is forgotten now, by this call or an earlier one. False: no run of it has ended, or it is not
            this owner's; nothing was changed.
        """
        now = _now()

        def body(connection: Connection) -> bool:
            forgotten = endings.forget(connection, task_id, owner_id, now=now)
            if forgotten:
                deliveries.forget(connection, task_id)
            return forgotten

        return await self._database.write(body)

    # --- starting

    async def against(self, task_id: UUID, run: int, message_id: str) -> Known:
        """Return what is known against starting this run from this message; many callers share a round trip.

        Returns:
            Forgotten; else the task's newest row, if it is of this run or a later one; else Refused or Doubted, if
            exactly this message is; else None: the run has not ended.
        """
        return await self._questions.do(Question(task_id, run, message_id))

    async def doubt(self, task_id: UUID, message_id: str) -> None:
        """Hold a message up whose submission may have to be refused, until `refuse`, `lift_doubt` or `purge`.

        Many callers share a transaction.
        """
        await self._doubts.do((task_id, message_id))

    async def refuse(self, task_id: UUID, message_id: str) -> bool:
        """Bar a message that is in doubt, for good; many callers share a transaction.

        Returns:
            Whether it is barred. False: the doubt was lifted meanwhile, and the message may have started its task.
        """
        return await self._refusals.do((task_id, message_id))

    async def lift_doubt(self, task_id: UUID, message_id: str) -> None:
        """Let a message through again that is in doubt."""
        await self._database.write(lambda connection: endings.lift_doubt(connection, task_id, message_id))

    # --- reading

    async def find(self, task_id: UUID, *, run: int = 0) -> EndedTask | Forgotten | None:
        """Return the end of the task's newest run, whoever's it is; many callers share a round trip.

        Args:
            task_id: The task.
            run: Only of this run or a later one.
        """
        found = await self._questions.do(Question(task_id, run, None))
        assert not isinstance(found, Refused | Doubted)
        return found

    async def page(
        self,
        owner_id: str,
        *,
        before: Place | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        statuses: Collection[TaskStatus] = (),
        actions: Collection[str] = (),
        labels: Collection[str] = (),
        limit: int,
    ) -> list[Task]:
        """Return a page of an owner's ended tasks: newest `created_at` first, those of one millisecond by falling id.

        A task with several runs stands there once, as its newest run ended. All conditions are the database's work.

        Args:
            owner_id: The owner's digest.
            before: Only what comes behind this place in the list: that of the last task of the page before.
            created_after: Milliseconds since the epoch, inclusive.
            created_before: Exclusive.
            statuses: Any of these; all if empty.
            actions: Any of these; all if empty.
            labels: All of these.
            limit: Tasks at most.

        Returns:
            Tasks, without their sealed bytes: of a page of 200 these may be 25 MiB.
        """
        listed = Listed(
            owner_id,
            before and (before[0], UUID(before[1])),
            created_after,
            created_before,
            statuses,
            actions,
            labels,
        )
        return await self._database.read(partial(questions.page, wanted=listed, limit=limit))

    async def latest(
        self,
        *,
        before: Place | None,
        statuses: Collection[TaskStatus],
        actions: Collection[str],
        labels: Collection[str],
        limit: int,
    ) -> list[Task]:
        """Return a page of all owners' ended tasks, for operators: the latest `finished_at` first, then by falling id.

        Args:
            before: Only what comes behind this place: a `finished_at` in ms, and an id.
            statuses: Any of these; all if empty.
            actions: Any of these; all if empty.
            labels: All of these.
            limit: Tasks at most.
        """
        return await self._database.read(
            partial(
                operations.latest,
                before=before and (before[0], UUID(before[1])),
                statuses=statuses,
                actions=actions,
                labels=labels,
                limit=limit,
            )
        )

    async def ended_since(self, moment: datetime) -> dict[str, EndedCount]:
        """Return how many tasks of each action have ended since, and how many of them were created since."""
        return await self._database.read(partial(operations.ended_since, since=milliseconds(moment)))

    async def answers(self) -> bool:
        """Return whether the database answers."""
        try:
            return await self._database.read(lambda connection: connection.scalar(select(1))) == 1
        except ArchiveUnavailable:
            return False

    # --- housekeeping

    async def purge(
        self, *, ended_before: datetime, refused_before: datetime, doubted_before: datetime, limit: int
    ) -> int:
        """Delete what ended or was forgotten before the first moment, refusals and doubts from before the others.

        A row whose result file is not removed yet stays until it is.

        Returns:
            How many rows are gone, at most `limit` of each kind; call again until it is 0.
        """

        def body(connection: Connection) -> int:
            before = milliseconds(ended_before)
            gone = retention.purge(
                connection,
                ended_before=before,
                refused_before=milliseconds(refused_before),
                doubted_before=milliseconds(doubted_before),
                limit=limit,
            )
            return gone + deliveries.purge(connection, before=before, limit=limit)

        return await self._database.write(body)

    async def expired_results(self, now: datetime, *, limit: int) -> list[ExpiredResult]:
        """Return files to remove: of forgotten tasks, and of those whose `expires_at` has passed."""
        return await self._database.read(partial(retention.expired_results, now=milliseconds(now), limit=limit))

    async def results_removed(self, results: Sequence[ExpiredResult]) -> None:
        """Note that these files are gone. The tasks' documents still describe them."""
        if results:
            await self._database.write(partial(retention.results_removed, removed=results))

    # --- groups

    async def _insert(self, given: list[Given]) -> list[EndedTask | None]:
        first: dict[Key, Given] = {}
        keys = [(row["task_id"], row["run"]) for row, _ in given]
        for key, item in zip(keys, given, strict=True):
            first.setdefault(key, item)

        def body(connection: Connection) -> dict[Key, Row | None]:
            written = endings.insert(connection, [row for row, _ in first.values()])
            winners = (ended for key, (row, ended) in first.items() if written[key] is row)
            deliveries.write_due(connection, [ended.webhook for ended in winners if ended.webhook])
            return written

        written = await self._database.write(body)
        winners = {key: _winner(written[key], item) for key, item in first.items()}
        return [winners[key] for key in keys]

    async def _ask(self, asked: list[Question]) -> list[Known]:
        return await self._database.read(partial(questions.known, questions=asked))

    async def _doubt(self, messages: list[Sent]) -> list[None]:
        await self._database.write(partial(endings.doubt, messages=messages, now=_now()))
        return [None] * len(messages)

    async def _refuse(self, messages: list[Sent]) -> list[bool]:
        barred = await self._database.write(partial(endings.refuse, messages=messages))
        return [message in barred for message in messages]


def _winner(written: Row | None, given: Given) -> EndedTask | None:
    row, ended = given
    if written is row:
        return ended
    return None if written is None else questions.read_back(written)


@asynccontextmanager
async def open_archive(url: str, *, timeout: timedelta = TIMEOUT, pool_size: int = POOL_SIZE) -> AsyncIterator[Archive]:
    """Open a process's archive, check that it can be used, and close it when everything taken is written.

    Args:
        url: `sqlite:////absolute/path.db`, or `postgresql://…`.
        timeout: How long a transaction may take.
        pool_size: Connections of this process to PostgreSQL at most.

    Raises:
        ConfigurationError: The URL is of neither kind, a driver is missing, or the schema is not this version's:
            `longhaul admin declare` must run first.
        ArchiveUnavailable: The database does not answer.
    """
    async with open_database(url, timeout=timeout, pool_size=pool_size) as database:
        await require_current(database)
        archive = Archive(database)
        try:
            yield archive
        finally:
            await archive.close()


def _now() -> int:
    return time.time_ns() // 1_000_000
