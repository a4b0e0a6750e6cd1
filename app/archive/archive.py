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

from sqlalchemy import select

from app.archive import endings, operations, questions, retention
from app.archive.batching import Groups
from app.archive.endings import Key
from app.archive.engine import POOL_SIZE, TIMEOUT, Database, open_database
from app.archive.operations import EndedCount
from app.archive.questions import Listed, Question
from app.archive.retention import ExpiredResult
from app.archive.rows import EndedTask, Forgotten, Known, Refused, Row, row_of
from app.archive.schema import require_current
from app.domain.errors import ArchiveUnavailable
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds
from app.domain.task import Task

__all__ = ["Archive", "EndedCount", "EndedTask", "ExpiredResult", "Forgotten", "Known", "Refused", "open_archive"]

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
        self._refusals: Groups[tuple[UUID, str], None] = Groups(self._refuse, name="archive refusals", largest=LARGEST)

    async def close(self) -> None:
        """Take no more rows or questions, and return when those that were taken are answered."""
        for groups in (self._inserts, self._questions, self._refusals):
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
        return await self._database.write(lambda connection: endings.forget(connection, task_id, owner_id, now=now))

    # --- starting

    async def against(self, task_id: UUID, run: int, message_id: str) -> Known:
        """Return what is known against starting this run from this message; many callers share a round trip.

        Returns:
            Forgotten; else the task's newest row, if it is of this run or a later one; else Refused, if exactly this
            message was refused; else None: the run has not ended.
        """
        return await self._questions.do(Question(task_id, run, message_id))

    async def refuse(self, task_id: UUID, message_id: str) -> None:
        """Bar a message whose submission is about to be refused; many callers share a transaction."""
        await self._refusals.do((task_id, message_id))

    async def lift_refusal(self, task_id: UUID, message_id: str) -> None:
        """Let a message through again."""
        await self._database.write(lambda connection: endings.lift_refusal(connection, task_id, message_id))

    # --- reading

    async def find(self, task_id: UUID) -> EndedTask | Forgotten | None:
        """Return the end of the task's newest run, whoever's it is; many callers share a round trip."""
        found = await self._questions.do(Question(task_id, 0, None))
        assert not isinstance(found, Refused)
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

    async def purge(self, *, ended_before: datetime, refused_before: datetime, limit: int) -> int:
        """Delete what ended or was forgotten before the one moment, and refusals from before the other.

        A row whose result file is not removed yet stays until it is.

        Returns:
            How many rows are gone, at most `limit` of each kind; call again until it is 0.
        """
        return await self._database.write(
            partial(
                retention.purge,
                ended_before=milliseconds(ended_before),
                refused_before=milliseconds(refused_before),
                limit=limit,
            )
        )

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
        written = await self._database.write(partial(endings.insert, rows=[row for row, _ in first.values()]))
        winners = {key: _winner(written[key], item) for key, item in first.items()}
        return [winners[key] for key in keys]

    async def _ask(self, asked: list[Question]) -> list[Known]:
        return await self._database.read(partial(questions.known, questions=asked))

    async def _refuse(self, messages: list[tuple[UUID, str]]) -> list[None]:
        await self._database.write(partial(endings.refuse, messages=messages, now=_now()))
        return [None] * len(messages)


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
