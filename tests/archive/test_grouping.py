"""Many callers, few round trips: counted, not timed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sqlalchemy import event

from app.archive.archive import Archive, EndedTask
from app.archive.deliveries import Taken
from app.domain.webhook import WebhookState
from tests.archive.builders import OWNER, ended_task
from tests.archive.test_deliveries import FUTURE, PAST, attempted, due_webhook


@contextmanager
def counted(archive: Archive, name: str) -> Iterator[list[object]]:
    """Collect the engine's events of a kind."""
    seen: list[object] = []

    def note(*_arguments: object) -> None:
        seen.append(name)

    database: Any = archive._database
    engine = getattr(database._engine, "sync_engine", database._engine)
    event.listen(engine, name, note)
    try:
        yield seen
    finally:
        event.remove(engine, name, note)


async def test_a_hundred_inserts_at_once_are_a_handful_of_transactions(archive: Archive) -> None:
    tasks = [ended_task() for _ in range(100)]
    with counted(archive, "commit") as commits:
        assert await asyncio.gather(*map(archive.insert, tasks)) == tasks
    assert 1 <= len(commits) <= 3


async def test_a_hundred_refusals_at_once_are_a_handful_of_transactions(archive: Archive) -> None:
    tasks = [uuid4() for _ in range(100)]
    with counted(archive, "commit") as commits:
        await asyncio.gather(*[archive.doubt(task_id, "m") for task_id in tasks])
        barred = await asyncio.gather(*[archive.refuse(task_id, "m") for task_id in (*tasks, uuid4())])
    assert barred == [True] * 100 + [False]
    assert 2 <= len(commits) <= 6


async def test_a_hundred_questions_at_once_are_a_handful_of_statements(archive: Archive) -> None:
    done = ended_task()
    await archive.insert(done)
    with counted(archive, "after_cursor_execute") as statements:
        answers: list[object] = list(
            await asyncio.gather(
                *[archive.against(uuid4(), 1, "m") for _ in range(50)],
                *[archive.find(done.task.id) for _ in range(50)],
            )
        )
    assert answers == [None] * 50 + [done] * 50
    assert 1 <= len(statements) <= 3


async def test_an_insert_alone_is_a_transaction_of_its_own_at_once(archive: Archive) -> None:
    with counted(archive, "commit") as commits:
        found: list[EndedTask | None] = [await archive.insert(ended_task()) for _ in range(5)]
    assert len(commits) == len(found) == 5


async def test_a_cancelled_caller_leaves_the_others_rows_alone(archive: Archive) -> None:
    tasks = [ended_task() for _ in range(10)]
    callers = [asyncio.create_task(archive.insert(task)) for task in tasks]
    while not archive._inserts._waiting:
        await asyncio.sleep(0)
    while archive._inserts._waiting:
        await asyncio.sleep(0)
    callers[0].cancel()
    assert await asyncio.gather(*callers[1:]) == tasks[1:]
    assert callers[0].cancelled()
    assert await archive.find(tasks[0].task.id) == tasks[0]


async def test_a_hundred_webhooks_at_once_are_a_handful_of_statements(archive: Archive) -> None:
    hooks, store = [due_webhook(uuid4()) for _ in range(100)], archive.deliveries
    await asyncio.gather(*map(store.announce, hooks))
    await store.add_secret(OWNER, b"sealed", overlap_ms=None)
    with counted(archive, "after_cursor_execute") as statements:
        taken = await asyncio.gather(*[store.take(one.id, attempt=1, held_until=FUTURE) for one in hooks])
        await asyncio.gather(*[store.postpone(one.id, attempt=1, until=PAST) for one in hooks])
        secrets = await asyncio.gather(*[store.secrets(OWNER) for _ in hooks])
        await asyncio.gather(*[store.record(attempted(one, 1, WebhookState.DUE)) for one in hooks])
    assert [one.webhook for one in taken if isinstance(one, Taken)] == hooks
    assert [one[0].sealed for one in secrets] == [b"sealed"] * 100
    assert sorted(await store.late(FUTURE, limit=200)) == sorted((one.id, 2) for one in hooks)
    assert len(statements) <= 40
