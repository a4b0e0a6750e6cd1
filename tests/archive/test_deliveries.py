"""Webhooks in SQL: written with the end that won, taken by one sender at a time, and never lost sight of."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Table, func, select

from app.archive.archive import Archive, EndedTask, open_archive
from app.archive.deliveries import Attempted, NotYet, Taken
from app.archive.rows import DueWebhook
from app.archive.tables import deliveries, webhook_secrets, webhooks
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds, moment
from app.domain.webhook import WebhookState, WebhookSummary
from tests.archive.builders import OWNER, ended_task

Sql = Callable[[Callable[[Connection], Any]], Any]

PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


def due_webhook(task_id: UUID | None = None, *, run: int = 1, kind: str = "workload.completed") -> DueWebhook:
    """Return an event to be told."""
    return DueWebhook(f"msg_{uuid4().hex}", OWNER, task_id, run, kind, b"sealed")


def end_with(webhook: DueWebhook | None, task_id: UUID, **changes: Any) -> EndedTask:
    """Return an end with its webhook."""
    return EndedTask(ended_task(task_id, **changes).task, webhook=webhook)


def attempted(webhook: DueWebhook, attempt: int, state: WebhookState, **changes: Any) -> Attempted:
    """Return how an attempt went."""
    values: dict[str, Any] = {
        "id": str(uuid4()), "webhook_id": webhook.id, "attempt": attempt, "duration_ms": 12, "outcome": "status",
        "attempted_at": moment(milliseconds(datetime.now(UTC))) + attempt * timedelta(milliseconds=1), "state": state,
        "status_code": 500, "next_attempt_at": FUTURE if state is WebhookState.DUE else None,
    }  # fmt: skip
    return Attempted(**values | changes)


def _count(table: Table) -> Callable[[Connection], Any]:
    return lambda connection: connection.scalar(select(func.count()).select_from(table))


async def test_the_webhook_comes_with_the_row_that_wins_and_with_no_other(archive: Archive) -> None:
    task_id = uuid4()
    first, second = due_webhook(task_id), due_webhook(task_id)
    await asyncio.gather(
        archive.insert(end_with(first, task_id)),
        archive.insert(end_with(second, task_id, status=TaskStatus.FAILED)),
    )
    await archive.insert(end_with(second, task_id))
    late = await archive.deliveries.late(FUTURE, limit=10)
    assert late == [(first.id, 1)]


async def test_an_end_that_was_told_nowhere_has_none_and_a_deleted_task_gets_none(archive: Archive) -> None:
    task_id, deleted = uuid4(), uuid4()
    await archive.insert(end_with(None, task_id))
    await archive.insert(end_with(None, deleted))
    assert await archive.forget(deleted, OWNER)
    assert await archive.insert(end_with(due_webhook(deleted), deleted)) is None
    assert await archive.deliveries.late(FUTURE, limit=10) == []
    assert await archive.deliveries.summary(task_id, 1) is None


async def test_one_sender_at_a_time_has_it(archive: Archive) -> None:
    webhook = due_webhook(uuid4())
    await archive.deliveries.announce(webhook)
    await archive.deliveries.announce(webhook)  # again: it is one
    answers = await asyncio.gather(
        *[archive.deliveries.take(webhook.id, attempt=1, held_until=FUTURE) for _ in range(5)]
    )
    assert [type(answer) for answer in answers].count(Taken) == 1
    assert answers.count(NotYet(FUTURE)) == 4
    taken = next(answer for answer in answers if isinstance(answer, Taken))
    assert (taken.webhook, taken.attempt) == (webhook, 1)


async def test_two_processes_do_not_both_get_it(archive: Archive, url: str) -> None:
    hooks = [due_webhook(uuid4()) for _ in range(30)]
    for webhook in hooks:
        await archive.deliveries.announce(webhook)
    async with open_archive(url) as other:
        answers = await asyncio.gather(
            *[
                one.deliveries.take(webhook.id, attempt=1, held_until=FUTURE)
                for webhook in hooks
                for one in (archive, other)
            ]
        )
    assert sum(isinstance(answer, Taken) for answer in answers) == 30


async def test_a_killed_senders_webhook_is_due_again_by_itself(archive: Archive) -> None:
    webhook = due_webhook(uuid4())
    await archive.deliveries.announce(webhook)
    assert isinstance(await archive.deliveries.take(webhook.id, attempt=1, held_until=PAST), Taken)
    assert isinstance(await archive.deliveries.take(webhook.id, attempt=1, held_until=FUTURE), Taken)


async def test_attempts_go_on_until_it_is_delivered(archive: Archive) -> None:
    task_id = uuid4()
    webhook, store = due_webhook(task_id), archive.deliveries
    await archive.insert(end_with(webhook, task_id))
    await store.take(webhook.id, attempt=1, held_until=FUTURE)
    first = attempted(webhook, 1, WebhookState.DUE, next_attempt_at=PAST, location="http://x/")
    await store.record(first)
    assert await store.summary(task_id, 1) == WebhookSummary(WebhookState.DUE, 1, PAST)
    assert await store.take(webhook.id, attempt=1, held_until=FUTURE) is None  # an old wake-up
    taken = await store.take(webhook.id, attempt=2, held_until=FUTURE)
    assert isinstance(taken, Taken)
    assert taken.attempt == 2
    last = attempted(webhook, 2, WebhookState.DELIVERED, status_code=200)
    await store.record(last)
    assert await store.summary(task_id, 1) == WebhookSummary(WebhookState.DELIVERED, 2)
    assert await store.take(webhook.id, attempt=3, held_until=FUTURE) is None
    assert await store.late(FUTURE, limit=10) == []
    listed = await store.of_task(task_id)
    assert [one.attempted.id for one in listed] == [last.id, first.id]
    assert (listed[1].type, listed[1].attempted.location) == ("workload.completed", "http://x/")
    assert listed[1].attempted.attempted_at == first.attempted_at


async def test_the_first_word_on_an_attempt_stands(archive: Archive) -> None:
    webhook = due_webhook(uuid4())
    await archive.deliveries.announce(webhook)
    await archive.deliveries.record(attempted(webhook, 1, WebhookState.DELIVERED, status_code=200))
    await archive.deliveries.record(attempted(webhook, 1, WebhookState.DUE))
    assert await archive.deliveries.late(FUTURE, limit=10) == []


async def test_an_attempt_that_is_recorded_twice_is_recorded_once(archive: Archive) -> None:
    """As when the database's answer was lost, and the record is written again."""
    task_id, store = uuid4(), archive.deliveries
    webhook = due_webhook(task_id)
    await archive.insert(end_with(webhook, task_id))
    first = attempted(webhook, 1, WebhookState.DUE)
    await asyncio.gather(store.record(first), store.record(first))
    await store.record(first)
    assert [one.attempted.id for one in await store.of_task(task_id)] == [first.id]
    assert await store.late(FUTURE, limit=10) == [(webhook.id, 2)]


async def test_nothing_is_recorded_of_what_is_deleted(archive: Archive, sql: Sql) -> None:
    await archive.deliveries.record(attempted(due_webhook(uuid4()), 1, WebhookState.DELIVERED))
    assert await sql(_count(deliveries)) == 0


async def test_a_postponed_one_is_due_then(archive: Archive) -> None:
    webhook = due_webhook(uuid4())
    await archive.deliveries.announce(webhook)
    await archive.deliveries.take(webhook.id, attempt=1, held_until=FUTURE)
    until = FUTURE - timedelta(days=1)
    await archive.deliveries.postpone(webhook.id, attempt=1, until=until)
    assert await archive.deliveries.take(webhook.id, attempt=1, held_until=FUTURE) == NotYet(until)
    await archive.deliveries.postpone(webhook.id, attempt=2, until=PAST)  # not the attempt that is next
    assert await archive.deliveries.late(PAST, limit=10) == []


async def test_redelivery_makes_the_same_one_due_again(archive: Archive) -> None:
    task_id = uuid4()
    webhook, store = due_webhook(task_id), archive.deliveries
    await archive.insert(end_with(webhook, task_id))
    done = attempted(webhook, 1, WebhookState.DELIVERED)
    await store.record(done)
    assert await store.redeliver(uuid4(), UUID(done.id)) is None  # of another task
    assert await store.redeliver(task_id, uuid4()) is None
    assert await store.late(FUTURE, limit=10) == []
    assert await store.redeliver(task_id, UUID(done.id)) == (webhook.id, 2)
    taken = await store.take(webhook.id, attempt=2, held_until=FUTURE)
    assert isinstance(taken, Taken)
    assert taken.webhook == webhook


async def test_the_ends_webhook_is_shown_before_the_starts(archive: Archive) -> None:
    task_id, store = uuid4(), archive.deliveries
    start = due_webhook(task_id, kind="workload.started")
    await store.announce(start)
    shown = await store.summary(task_id, 1)
    assert shown is not None
    assert (shown.state, shown.attempts) == (WebhookState.DUE, 0)
    await store.record(attempted(start, 1, WebhookState.STOPPED))
    assert await store.summary(task_id, 1) == WebhookSummary(WebhookState.STOPPED, 1)
    await archive.insert(end_with(due_webhook(task_id, kind="workload.cancelled"), task_id))
    shown = await store.summary(task_id, 1)
    assert shown is not None
    assert (shown.state, shown.attempts) == (WebhookState.DUE, 0)
    assert await store.summary(task_id, 2) is None  # of another run


async def test_a_deleted_tasks_webhook_is_delivered_and_then_nothing_is_left(archive: Archive, sql: Sql) -> None:
    task_id, store = uuid4(), archive.deliveries
    told, untold = due_webhook(task_id, kind="workload.started"), due_webhook(task_id)
    await store.announce(told)
    await store.record(attempted(told, 1, WebhookState.DELIVERED))
    await archive.insert(end_with(untold, task_id))
    assert await archive.forget(task_id, OWNER)
    assert [webhook_id for webhook_id, _ in await store.late(FUTURE, limit=10)] == [untold.id]
    assert isinstance(await store.take(untold.id, attempt=1, held_until=FUTURE), Taken)
    await store.record(attempted(untold, 1, WebhookState.DUE))
    await store.record(attempted(untold, 2, WebhookState.DELIVERED))
    assert await sql(_count(webhooks)) == await sql(_count(deliveries)) == 0


async def test_what_is_past_its_time_is_purged_unless_it_is_due(archive: Archive) -> None:
    store, done, still = archive.deliveries, due_webhook(uuid4()), due_webhook(uuid4())
    for webhook in (done, still):
        await store.announce(webhook)
    await store.record(attempted(done, 1, WebhookState.FAILED))
    assert await archive.purge(ended_before=PAST, refused_before=PAST, doubted_before=PAST, limit=10) == 0
    assert await archive.purge(ended_before=FUTURE, refused_before=PAST, doubted_before=PAST, limit=10) == 1
    assert done.task_id
    assert await store.of_task(done.task_id) == []
    assert [webhook_id for webhook_id, _ in await store.late(FUTURE, limit=10)] == [still.id]


async def test_the_first_secret_is_made_once(archive: Archive) -> None:
    store = archive.deliveries
    assert await store.secrets(OWNER) == []
    made = await asyncio.gather(*[store.add_secret(OWNER, str(i).encode(), overlap_ms=None) for i in range(5)])
    assert len({tuple(one) for one in made}) == 1
    assert await store.secrets(OWNER) == made[0]
    assert await store.secrets("another") == []


async def test_rotation_overlaps_and_a_second_one_ends_the_oldest(archive: Archive, sql: Sql) -> None:
    store = archive.deliveries
    await store.add_secret(OWNER, b"first", overlap_ms=None)
    assert [one.sealed for one in await store.add_secret(OWNER, b"second", overlap_ms=3_600_000)] == [
        b"first",
        b"second",
    ]
    older, newer = await store.secrets(OWNER)
    assert older.expires_at is not None
    assert timedelta(minutes=55) < older.expires_at - datetime.now(UTC) < timedelta(minutes=65)
    assert newer.expires_at is None
    assert [one.sealed for one in await store.add_secret(OWNER, b"third", overlap_ms=3_600_000)] == [
        b"second",
        b"third",
    ]
    assert [one.sealed for one in await store.add_secret(OWNER, b"fourth", overlap_ms=0)] == [b"fourth"]
    assert await sql(_count(webhook_secrets)) == 2


async def test_racing_rotations_give_one_answer_each_that_signs(archive: Archive) -> None:
    store = archive.deliveries
    await store.add_secret(OWNER, b"first", overlap_ms=None)
    answers = await asyncio.gather(*[store.add_secret(OWNER, b"%d" % i, overlap_ms=3_600_000) for i in range(4)])
    now = await store.secrets(OWNER)
    assert 1 <= len(now) <= 2
    for answer in answers:
        assert answer[-1].expires_at is None
