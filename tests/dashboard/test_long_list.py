"""Ten thousand tasks: the document stays small, and finding one stays quick."""

import time
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.async_api import expect

from app.archive.archive import EndedTask, open_archive
from app.domain.lifecycle import TaskStatus
from app.domain.task import Owner, Task
from app.store.keys import owner_id
from tests.dashboard.conftest import Visit
from tests.dashboard.visitor import Visitor
from tests.support.service import Service

COUNT = 10_000
NODES = 2_000
SECONDS_TO_FIRST_ROWS, SECONDS_TO_FILTER = 1.0, 0.5
RARE = COUNT - 4_000


async def fill(service: Service, subject: str) -> list[Task]:
    """Write the ends of ten thousand tasks into the archive: the newest first."""
    now, owner = datetime.now(UTC), owner_id(Owner(service.settings.jwt.issuer, subject))
    ended = (TaskStatus.COMPLETED, TaskStatus.COMPLETED, TaskStatus.COMPLETED, TaskStatus.CANCELLED)
    first = Task(
        id=uuid4(), owner_id=owner, action="noop", queue="bench", status=TaskStatus.COMPLETED, seq=1, run=1, attempt=1,
        max_attempts=5, progress=100, message=None, labels=(), created_at=now,
    )  # fmt: skip
    tasks = [
        replace(
            first,
            id=uuid4(),
            action=("noop", "sleep")[number % 2],
            status=TaskStatus.FAILED if number == RARE else ended[number % 4],
            labels=(f"batch:{number // 100}",),
            created_at=now - timedelta(minutes=number + 10),
            started_at=now - timedelta(minutes=number + 10),
            finished_at=now - timedelta(minutes=number + 9),
        )
        for number in range(COUNT)
    ]
    async with open_archive(service.settings.archive_url.get_secret_value()) as archive:
        for start in range(0, COUNT, 100):
            await _all(archive.insert(EndedTask(task)) for task in tasks[start : start + 100])
    return tasks


async def _all(awaitables: "object") -> None:
    import asyncio

    await asyncio.gather(*awaitables)  # type: ignore[misc]


async def nodes(visitor: Visitor) -> int:
    count: int = await visitor.page.evaluate("document.querySelectorAll('*').length")
    return count


async def timed(what: Awaitable[object]) -> float:
    began = time.perf_counter()
    await what
    return time.perf_counter() - began
