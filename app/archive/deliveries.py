"""Deliveries: what is to be told to callers, and how each attempt at it went. The row is the truth of a webhook.

A message in the queue `webhooks` only wakes a sender; whether, when and what is sent stands here. The end's webhook is
written in the transaction of the row that won (`Archive.insert`): there is none without an end, and no end without it.

One sender at a time has a webhook: to take it moves `next_attempt_at` past the longest attempt, so that a sender that
was killed leaves it due by itself. Two are possible when an attempt takes longer than that, and harmless: a webhook
arrives at least once, under one id.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Column, Connection, Row, bindparam, delete, select, update

from app.archive.batching import Groups
from app.archive.endings import insert_new
from app.archive.engine import Database
from app.archive.rows import DueWebhook
from app.archive.tables import deliveries, forgotten, webhook_secrets, webhooks
from app.domain.moments import milliseconds, moment
from app.domain.webhook import WebhookState, WebhookSummary

LARGEST: Final = 100
MOST_ATTEMPTS: Final = 500
"""Attempts of a task that are listed, the newest ones."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A webhook that is this sender's for one attempt."""

    webhook: DueWebhook
    attempt: int
    """Which one it is, from 1."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NotYet:
    """It is not due before this, or another sender has it for so long."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Attempted:
    """How an attempt went, and what becomes of the webhook."""

    id: str
    webhook_id: str
    attempt: int
    attempted_at: datetime
    duration_ms: int
    outcome: str
    state: WebhookState
    status_code: int | None = None
    location: str | None = None
    error: str | None = None
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """An attempt, with what it was at."""

    type: str
    attempted: Attempted


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, sealed. The newest one of its owner has no `expires_at`."""

    sealed: bytes
    created_at: datetime
    expires_at: datetime | None


class _Wanted(NamedTuple):
    webhook_id: str
    attempt: int
    held_until: int


class _Postponed(NamedTuple):
    webhook_id: str
    attempt: int
    until: int


class Deliveries:
    """Webhooks and their attempts. Every method raises ArchiveUnavailable when no answer comes in time."""

    def __init__(self, database: Database) -> None:
        """Take the archive's database; `open_archive` does it."""
        self._database = database
        self._announced: Groups[DueWebhook, None] = Groups(self._announce, name="webhooks due", largest=LARGEST)
        self._takes: Groups[_Wanted, Taken | NotYet | None] = Groups(self._take, name="webhook takes", largest=LARGEST)
        self._records: Groups[Attempted, None] = Groups(self._record, name="webhook attempts", largest=LARGEST)
        self._delays: Groups[_Postponed, None] = Groups(self._postpone, name="webhook delays", largest=LARGEST)
        self._reads: Groups[tuple[UUID, int], WebhookSummary | None] = Groups(
            self._summarise, name="webhook states", largest=LARGEST
        )
        self._secrets: Groups[str, list[Secret]] = Groups(self._read_secrets, name="webhook secrets", largest=LARGEST)

    async def close(self) -> None:
        """Return when what was taken is answered."""
        for groups in (self._announced, self._takes, self._records, self._delays, self._reads, self._secrets):
            await groups.close()

    # --- sending

    async def announce(self, webhook: DueWebhook) -> None:
        """Write that an event is to be told, unless it is written already."""
        await self._announced.do(webhook)

    async def take(self, webhook_id: str, *, attempt: int, held_until: datetime) -> Taken | NotYet | None:
        """Take a webhook for one attempt; nobody else gets it before `held_until`.

        Args:
            webhook_id: Which one.
            attempt: Which attempt the wake-up was for; if that one has been made, another wake-up is under way.
            held_until: When it is due again, should this sender never record how it went.

        Returns:
            None: there is nothing to do.
        """
        return await self._takes.do(_Wanted(webhook_id, attempt, milliseconds(held_until)))

    async def record(self, attempted: Attempted) -> None:
        """Write how an attempt went; may be repeated. Of two senders' words on the same attempt, the first stands."""
        await self._records.do(attempted)

    async def postpone(self, webhook_id: str, *, attempt: int, until: datetime) -> None:
        """Give a taken webhook back, unsent."""
        await self._delays.do(_Postponed(webhook_id, attempt, milliseconds(until)))

    async def late(self, due_before: datetime, *, limit: int) -> list[tuple[str, int]]:
        """Return webhooks that have been due for long, the longest first: their ids, and the attempt that is next."""
        statement = (
            select(webhooks.c.webhook_id, webhooks.c.attempts)
            .where(webhooks.c.next_attempt_at <= milliseconds(due_before))
            .order_by(webhooks.c.next_attempt_at)
            .limit(limit)
        )
        return await self._database.read(
            lambda connection: [(webhook_id, attempts + 1) for webhook_id, attempts in connection.execute(statement)]
        )

    # --- looking

    async def summary(self, task_id: UUID, run: int) -> WebhookSummary | None:
        """Return how far the webhook of a run has come: that of its end, or else of its start."""
        return await self._reads.do((task_id, run))

    async def of_task(self, task_id: UUID) -> list[Listed]:
        """Return the attempts at a task's webhooks, the newest first."""
        statement = (
            select(webhooks.c.type, webhooks.c.state, deliveries)
            .join(deliveries, deliveries.c.webhook_id == webhooks.c.webhook_id)
            .where(webhooks.c.task_id == task_id)
            .order_by(deliveries.c.attempted_at.desc(), deliveries.c.attempt.desc())
            .limit(MOST_ATTEMPTS)
        )
        return await self._database.read(
            lambda connection: [Listed(row.type, _attempted(row)) for row in connection.execute(statement)]
        )

    async def redeliver(self, task_id: UUID, delivery_id: UUID) -> tuple[str, int] | None:
        """Make the webhook of an earlier attempt due at once; its id and the attempt that is next, or None."""
        now = _now()

        def body(connection: Connection) -> tuple[str, int] | None:
            wanted = select(deliveries.c.webhook_id).where(deliveries.c.delivery_id == str(delivery_id))
            row = connection.execute(
                update(webhooks)
                .where(webhooks.c.webhook_id.in_(wanted), webhooks.c.task_id == task_id)
                .values(state=WebhookState.DUE.value, next_attempt_at=now)
                .returning(webhooks.c.webhook_id, webhooks.c.attempts)
            ).one_or_none()
            return row and (row.webhook_id, row.attempts + 1)

        return await self._database.write(body)

    # --- secrets

    async def secrets(self, owner_id: str) -> list[Secret]:
        """Return an owner's secrets that are good now, the older one first; many callers share a round trip."""
        return await self._secrets.do(owner_id)

    async def add_secret(self, owner_id: str, sealed: bytes, *, overlap_ms: int | None) -> list[Secret]:
        """Add a secret and return those that are good then.

        Args:
            owner_id: Whose.
            sealed: The new one.
            overlap_ms: For how long the one before stays good; one before that ends at once. None: only the first one
                is added, and nothing is changed when there is one.
        """
        now = _now()
        return await self._database.write(lambda connection: _add_secret(connection, owner_id, sealed, overlap_ms, now))

    # --- groups

    async def _announce(self, due: list[DueWebhook]) -> list[None]:
        await self._database.write(lambda connection: write_due(connection, due))
        return [None] * len(due)

    async def _take(self, wanted: list[_Wanted]) -> list[Taken | NotYet | None]:
        now = _now()
        return await self._database.write(lambda connection: _take(connection, wanted, now))

    async def _record(self, attempted: list[Attempted]) -> list[None]:
        await self._database.write(lambda connection: _record(connection, attempted))
        return [None] * len(attempted)

    async def _postpone(self, postponed: list[_Postponed]) -> list[None]:
        rows = [{"id": one.webhook_id, "made": one.attempt - 1, "until": one.until} for one in sorted(postponed)]
        await self._database.write(lambda connection: connection.execute(POSTPONE, rows))
        return [None] * len(postponed)

    async def _read_secrets(self, owner_ids: list[str]) -> list[list[Secret]]:
        now = _now()
        found = await self._database.read(lambda connection: _secrets(connection, owner_ids, now))
        return [found.get(owner_id, []) for owner_id in owner_ids]

    async def _summarise(self, asked: list[tuple[UUID, int]]) -> list[WebhookSummary | None]:
        statement = (
            select(webhooks)
            .where(webhooks.c.task_id.in_({task_id for task_id, _ in asked}))
            .order_by(webhooks.c.type.desc())
        )

        def body(connection: Connection) -> dict[tuple[UUID, int], WebhookSummary]:
            # "workload.started" sorts behind all others, so it comes first here, and an end's webhook takes its place.
            return {(row.task_id, row.run): _summary(row) for row in connection.execute(statement)}

        found = await self._database.read(body)
        return [found.get(one) for one in asked]


# Each is run for a whole group in one go: a statement of its own for each row would be a round trip each.
HOLD: Final = (
    update(webhooks).where(webhooks.c.webhook_id == bindparam("id")).values(next_attempt_at=bindparam("until"))
)
POSTPONE: Final = HOLD.where(webhooks.c.attempts == bindparam("made"), webhooks.c.state == WebhookState.DUE.value)
RECORD: Final = (
    update(webhooks)
    .where(webhooks.c.webhook_id == bindparam("id"))
    .values(state=bindparam("now"), attempts=bindparam("made"), next_attempt_at=bindparam("until"))
)


def write_due(connection: Connection, due: Sequence[DueWebhook]) -> None:
    """Write events that are to be told at once; those that are written already stay as they are."""
    if not due:
        return
    now = _now()
    connection.execute(
        insert_new(connection, webhooks),
        [
            {
                "webhook_id": one.id,
                "owner_id": one.owner_id,
                "task_id": one.task_id,
                "run": one.run,
                "type": one.type,
                "state": WebhookState.DUE.value,
                "attempts": 0,
                "next_attempt_at": now,
                "created_at": now,
                "letter": one.letter,
            }
            for one in sorted(due, key=lambda one: one.id)
        ],
    )


def forget(connection: Connection, task_id: UUID) -> None:
    """Delete the webhooks of a task, but for those that are still to be delivered: they go with their delivery."""
    _delete(connection, list(connection.scalars(
        select(webhooks.c.webhook_id).where(webhooks.c.task_id == task_id, webhooks.c.next_attempt_at.is_(None))
    )))  # fmt: skip


def purge(connection: Connection, *, before: int, limit: int) -> int:
    """Delete webhooks from before a moment, with their attempts, unless they are due; how many, at most `limit`."""
    old = list(
        connection.scalars(
            select(webhooks.c.webhook_id)
            .where(webhooks.c.created_at < before, webhooks.c.next_attempt_at.is_(None))
            .order_by(webhooks.c.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    )
    _delete(connection, old)
    return len(old)


def _delete(connection: Connection, ids: Sequence[str]) -> None:
    for table in (deliveries, webhooks):
        connection.execute(delete(table).where(table.c.webhook_id.in_(ids)))


def _take(connection: Connection, wanted: Sequence[_Wanted], now: int) -> list[Taken | NotYet | None]:
    rows = _locked(connection, {one.webhook_id for one in wanted}, *webhooks.c)
    held: dict[str, int] = {}

    def answer(one: _Wanted) -> Taken | NotYet | None:
        row = rows.get(one.webhook_id)
        if row is None or row.state != WebhookState.DUE or one.attempt <= row.attempts:
            return None
        due = held.get(one.webhook_id, row.next_attempt_at)
        if due > now:
            return NotYet(moment(due))
        held[one.webhook_id] = one.held_until
        return Taken(_due_webhook(row), row.attempts + 1, moment(row.created_at))

    answers = [answer(one) for one in wanted]
    if held:
        connection.execute(HOLD, [{"id": webhook_id, "until": until} for webhook_id, until in held.items()])
    return answers


def _record(connection: Connection, attempted: Sequence[Attempted]) -> None:
    rows = _locked(connection, {one.webhook_id for one in attempted}, webhooks.c.attempts, webhooks.c.task_id)
    made = {webhook_id: row.attempts for webhook_id, row in rows.items()}
    newest: dict[str, Attempted] = {}
    for one in attempted:
        if made.get(one.webhook_id) == one.attempt - 1:
            made[one.webhook_id] = one.attempt
            newest[one.webhook_id] = one
    if newest:
        connection.execute(RECORD, [_progress(one) for one in newest.values()])
    # What is deleted has no attempts; and what an earlier call has written, which got no answer, is there already.
    if known := [_delivery(one) for one in attempted if one.webhook_id in rows]:
        connection.execute(insert_new(connection, deliveries), known)
    over = {one.webhook_id: rows[one.webhook_id].task_id for one in newest.values() if one.next_attempt_at is None}
    if tasks := {task_id for task_id in over.values() if task_id}:
        # Of a task that was deleted meanwhile, nothing is left now.
        deleted = set(connection.scalars(select(forgotten.c.task_id).where(forgotten.c.task_id.in_(tasks))))
        _delete(connection, [webhook_id for webhook_id, task_id in over.items() if task_id in deleted])


def _locked(connection: Connection, ids: Collection[str], *columns: Column[Any]) -> dict[str, Row[Any]]:
    """Return webhooks' rows, which are this transaction's until its end; groups lock theirs in one order."""
    statement = select(webhooks.c.webhook_id.label("id"), *columns).where(webhooks.c.webhook_id.in_(ids))
    rows = connection.execute(statement.order_by(webhooks.c.webhook_id).with_for_update())
    return {row.id: row for row in rows}


def _progress(one: Attempted) -> dict[str, Any]:
    return {
        "id": one.webhook_id,
        "now": one.state.value,
        "made": one.attempt,
        "until": _milliseconds(one.next_attempt_at),
    }


def _delivery(one: Attempted) -> dict[str, Any]:
    return {
        "delivery_id": one.id,
        "webhook_id": one.webhook_id,
        "attempt": one.attempt,
        "attempted_at": milliseconds(one.attempted_at),
        "duration_ms": one.duration_ms,
        "outcome": one.outcome,
        "status_code": one.status_code,
        "location": one.location,
        "error": one.error,
        "next_attempt_at": _milliseconds(one.next_attempt_at),
    }


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else milliseconds(at)


def _secrets(connection: Connection, owner_ids: Collection[str], now: int) -> dict[str, list[Secret]]:
    statement = select(webhook_secrets).where(webhook_secrets.c.owner_id.in_(owner_ids))
    found: dict[str, list[Secret]] = {}
    for row in connection.execute(statement.order_by(webhook_secrets.c.generation)):
        if row.expires_at is None or row.expires_at > now:
            expires_at = None if row.expires_at is None else moment(row.expires_at)
            found.setdefault(row.owner_id, []).append(Secret(row.secret, moment(row.created_at), expires_at))
    return found


def _locked_generation(connection: Connection, owner_id: str) -> int | None:
    """Lock an owner's newest secret and return its generation; None if there is no secret.

    Who waited for a row of PostgreSQL's may find it gone, with newer ones in its place that its statement did not see:
    it asks again.
    """
    mine = webhook_secrets.c.owner_id == owner_id
    newest = select(webhook_secrets.c.generation).where(mine).order_by(webhook_secrets.c.generation.desc()).limit(1)
    while True:
        generation = connection.execute(newest.with_for_update()).scalar()
        if generation is not None or connection.execute(newest).first() is None:
            return generation


def _add_secret(connection: Connection, owner_id: str, sealed: bytes, overlap_ms: int | None, now: int) -> list[Secret]:
    mine = webhook_secrets.c.owner_id == owner_id
    newest = _locked_generation(connection, owner_id)
    if newest is None or overlap_ms is not None:
        if newest is not None and overlap_ms is not None:
            connection.execute(delete(webhook_secrets).where(mine, webhook_secrets.c.generation < newest))
            connection.execute(
                update(webhook_secrets)
                .where(mine, webhook_secrets.c.generation == newest)
                .values(expires_at=now + overlap_ms)
            )
        connection.execute(
            insert_new(connection, webhook_secrets),
            {
                "owner_id": owner_id,
                "generation": (newest or 0) + 1,
                "created_at": now,
                "expires_at": None,
                "secret": sealed,
            },
        )
    return _secrets(connection, [owner_id], now)[owner_id]


def _due_webhook(row: Row[Any]) -> DueWebhook:
    return DueWebhook(row.webhook_id, row.owner_id, row.task_id, row.run, row.type, row.letter)


def _summary(row: Row[Any]) -> WebhookSummary:
    due = row.next_attempt_at
    return WebhookSummary(WebhookState(row.state), row.attempts, moment(due) if due is not None else None)


def _attempted(row: Row[Any]) -> Attempted:
    due = row.next_attempt_at
    return Attempted(
        id=row.delivery_id,
        webhook_id=row.webhook_id,
        attempt=row.attempt,
        attempted_at=moment(row.attempted_at),
        duration_ms=row.duration_ms,
        outcome=row.outcome,
        state=WebhookState(row.state),
        status_code=row.status_code,
        location=row.location,
        error=row.error,
        next_attempt_at=moment(due) if due is not None else None,
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
