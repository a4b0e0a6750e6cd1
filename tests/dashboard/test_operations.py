"""What operators do in the dashboard."""

import asyncio
import re
import time
from typing import Any

import httpx
import pytest
from playwright.async_api import expect
from redis.asyncio import Redis

from app.store.keys import task_key
from tests.api.staging import Staging
from tests.dashboard.conftest import Visit
from tests.dashboard.test_journeys import SLOW, TOO_LONG, submitted
from tests.support.service import Service


async def test_users_are_shown_nothing_of_it(visit: Visit) -> None:
    visitor = await visit("/dashboard/queues")
    await visitor.heading("Tasks").wait_for()
    await expect(visitor.page.get_by_role("navigation", name="Operations")).to_have_count(0)


async def test_queues_and_workers_show_what_goes_on(
    visit: Visit, alice: httpx.AsyncClient, admin_scopes: str, service: Service
) -> None:
    task = await submitted(alice, **SLOW)
    visitor = await visit("/dashboard/queues", user="an operator", scopes=admin_scopes)
    page = visitor.page
    bench = page.get_by_role("region", name="Queue bench")
    await expect(bench.locator("dd").nth(1)).not_to_have_text("0")
    await expect(bench.locator("path.line-path").first).to_have_attribute("d", re.compile("^M.+L"))
    await page.get_by_role("link", name="Workers").click()
    here = page.locator(f'a[href="/dashboard/tasks/{task["task_id"]}"]')
    await expect(here).to_be_visible()
    await expect(page.locator(".worker", has=here).locator(".memory-text")).to_have_text(re.compile(r"^\d+ MB in \d+ "))
    await here.click()
    await visitor.sees(page.locator(".task-head"), "Another user's task")
    await visitor.sees(page.locator(".facts"), "Worker")
    await expect(visitor.button("Cancel")).to_have_count(0)
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")
    await visitor.sees_status("Cancelled")


async def test_a_running_task_is_taken_from_its_worker_by_keyboard_and_with_a_reason(
    visit: Visit, alice: httpx.AsyncClient, admin_scopes: str, service: Service
) -> None:
    task = await submitted(alice, **SLOW)
    visitor = await visit(f"/dashboard/tasks/{task['task_id']}", user="an operator", scopes=admin_scopes)
    page, keys = visitor.page, visitor.page.keyboard
    await visitor.sees_status("Processing")
    for _ in range(30):
        await keys.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == "Requeue":
            break
    await expect(visitor.button("Requeue")).to_be_focused()
    await keys.press("Enter")
    await page.get_by_role("dialog", name="Requeue this task?").wait_for()
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(visitor.button("Requeue")).to_be_focused()
    assert (await alice.get(f"/v1/workload/status/{task['task_id']}")).json()["attempt"] == 1, "nothing was done"
    await keys.press("Enter")
    await keys.type("requeued in a browser")
    await keys.press("Enter")
    await visitor.sees(page.locator(".toast"), "Requeued")
    await visitor.sees(page.locator(".facts"), "Attempt2")
    await visitor.sees_status("Processing")
    assert "requeued in a browser" in service.api_log
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")
    await visitor.sees_status("Cancelled")
    await expect(visitor.button("Requeue")).to_have_count(0)


async def test_a_task_whose_worker_is_silent_is_among_the_stalled(
    visit: Visit, staging: Staging, service_redis: Redis, admin_scopes: str
) -> None:
    task_id, _ = await staging.processing()

    async def stay_silent() -> None:
        while True:  # always just expired: housekeeping takes over what has been so for five seconds
            await service_redis.hset(task_key(task_id), "lease_until", int(time.time() * 1000) - 100)
            await asyncio.sleep(0.5)

    visitor = await visit("/dashboard/stalled", user="an operator", scopes=admin_scopes)
    entry = visitor.page.locator(".entry", has_text=str(task_id))
    silent = asyncio.create_task(stay_silent())
    try:
        await visitor.sees(entry, "fallen silent: the test")
    finally:
        silent.cancel()
        await asyncio.gather(silent, return_exceptions=True)
    await staging.end(task_id)
    await expect(entry).to_have_count(0)


async def test_a_queue_is_paused_and_resumed_with_a_reason(visit: Visit, admin_scopes: str, service: Service) -> None:
    visitor = await visit("/dashboard/queues", user="an operator", scopes=admin_scopes)
    page = visitor.page
    queue = page.get_by_role("region", name="Queue report_gen")
    for verb, verdict in (("Pause", "Paused"), ("Resume", "Idle")):
        await queue.get_by_role("button", name=verb).click()
        await visitor.says_why(f"{verb} in a browser", verb=verb)
        await expect(queue.locator(".verdict")).to_have_text(verdict)
        assert f"{verb} in a browser" in service.api_log
    await expect(queue.get_by_text("Paused by")).to_be_hidden()


async def test_a_dead_letter_is_redriven_with_a_reason(
    visit: Visit, alice: httpx.AsyncClient, admin_scopes: str, service: Service
) -> None:
    # It takes its time to fail again: until then there is no other letter of it.
    task = await submitted(alice, **TOO_LONG | {"timeout_seconds": 4})
    await service.ended(alice, task["task_id"])
    visitor = await visit("/dashboard/dead-letters", user="an operator", scopes=admin_scopes)
    page = visitor.page
    letter = page.locator(".letter", has_text=task["task_id"])
    await letter.get_by_role("button", name="Redrive").click()
    await visitor.says_why("tried in a browser", verb="Redrive")
    await visitor.sees(page.locator(".toast"), "It runs again")
    await expect(letter).to_have_count(0)
    assert "tried in a browser" in service.api_log
    async with service.client("an operator", scopes=admin_scopes) as operator:
        again: dict[str, Any] = (await operator.get(f"/v1/admin/tasks/{task['task_id']}")).json()
    assert again["run"] == 2
    await service.ended(alice, task["task_id"])


@pytest.mark.slow
async def test_a_dead_letter_is_removed_and_its_task_stays_failed(
    visit: Visit, alice: httpx.AsyncClient, admin_scopes: str, service: Service
) -> None:
    task = await submitted(alice, **TOO_LONG)
    await service.ended(alice, task["task_id"])
    visitor = await visit("/dashboard/dead-letters", user="an operator", scopes=admin_scopes)
    page = visitor.page
    letter = page.locator(".letter", has_text=task["task_id"])
    await letter.get_by_role("button", name="Remove").click()
    await visitor.says_why("removed in a browser", verb="Remove")
    await visitor.sees(page.locator(".toast"), "Removed")
    await expect(letter).to_have_count(0)
    assert "removed in a browser" in service.api_log
    assert (await alice.get(f"/v1/workload/status/{task['task_id']}")).json()["status"] == "FAILED"


async def test_everybodys_tasks_are_listed(visit: Visit, alice: httpx.AsyncClient, admin_scopes: str) -> None:
    task = await submitted(alice, **SLOW, labels=["for-operators"])
    visitor = await visit("/dashboard/all-tasks?label=for-operators", user="an operator", scopes=admin_scopes)
    await visitor.sees(visitor.row(task["task_id"]), "Processing")
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")
    await visitor.sees(visitor.row(task["task_id"]), "Cancelled")
