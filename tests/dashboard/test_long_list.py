"""Ten thousand tasks: the document stays small, and finding one stays quick."""

import asyncio
import time
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
        first._replace(
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
            await asyncio.gather(*(archive.insert(EndedTask(task)) for task in tasks[start : start + 100]))
    return tasks


async def nodes(visitor: Visitor) -> int:
    count: int = await visitor.page.evaluate("document.querySelectorAll('*').length")
    return count


async def test_ten_thousand_tasks_are_few_nodes_and_all_can_be_reached(
    visit: Visit, service: Service, subject: str
) -> None:
    tasks = await fill(service, subject)
    visitor = await visit()
    page = visitor.page
    await visitor.row(str(tasks[0].id)).wait_for()
    assert await nodes(visitor) <= NODES

    await page.get_by_role("button", name="Failed").click()
    await visitor.row(str(tasks[RARE].id)).wait_for()
    await expect(page.locator(".tasks li")).to_have_count(1)
    await visitor.button("Clear filters").click()

    await page.get_by_label("Find a text").fill(f"batch:{RARE // 100}")  # read page by page, as far as it takes
    await visitor.sees(page.locator(".count"), "100 found in 10,000 tasks")
    assert await nodes(visitor) <= NODES
    await page.get_by_label("Find a text").fill("")
    await expect(page.locator(".count")).to_have_text("10,000 tasks")

    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await visitor.row(str(tasks[-1].id)).wait_for()
    assert await nodes(visitor) <= NODES


@pytest.mark.slow
async def test_the_first_rows_and_a_filter_are_quick(visit: Visit, service: Service, subject: str) -> None:
    """The figures of the contract, on a machine that does little else: in `make browser` only."""
    tasks = await fill(service, subject)
    visitor = await visit("/dashboard/submit")  # its files are there: the list is what is measured
    page = visitor.page
    await visitor.heading("New task").wait_for()
    best = {"first rows": float("inf"), "filter by status": float("inf"), "filter by text": float("inf")}

    def measured(name: str, began: float) -> None:
        best[name] = min(best[name], time.perf_counter() - began)

    for _ in range(3):
        began = time.perf_counter()
        await page.goto("/dashboard")
        await visitor.row(str(tasks[0].id)).wait_for()
        measured("first rows", began)
        began = time.perf_counter()
        await page.get_by_role("button", name="Failed").click()
        await visitor.row(str(tasks[RARE].id)).wait_for()
        measured("filter by status", began)
        await visitor.button("Clear filters").click()
        await page.get_by_label("Find a text").fill("batch:99")
        await visitor.sees(page.locator(".count"), "100 found in 10,000 tasks")
        began = time.perf_counter()
        await page.get_by_label("Find a text").fill(str(tasks[-1].id))
        await visitor.row(str(tasks[-1].id)).wait_for()
        measured("filter by text", began)
    assert best["first rows"] <= SECONDS_TO_FIRST_ROWS, best
    assert max(best["filter by status"], best["filter by text"]) <= SECONDS_TO_FILTER, best
