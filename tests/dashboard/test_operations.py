"""What operators do in the dashboard."""

import re
from typing import Any

import httpx
from playwright.async_api import expect

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
    await here.click()
    await visitor.sees(page.locator(".task-head"), "Another user's task")
    await visitor.sees(page.locator(".facts"), "Worker")
    await expect(visitor.button("Cancel")).to_have_count(0)
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")
    await visitor.sees_status("Cancelled")


async def test_a_queue_is_paused_and_resumed_with_a_reason(visit: Visit, admin_scopes: str, service: Service) -> None:
    visitor = await visit("/dashboard/queues", user="an operator", scopes=admin_scopes)
    page = visitor.page
    queue = page.get_by_role("region", name="Queue report_gen")
    for verb, verdict in (("Pause", "Paused"), ("Resume", "Idle")):
        await queue.get_by_role("button", name=verb).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Why?").fill(f"{verb} in a browser")
        await dialog.get_by_role("button", name=verb).click()
        await expect(queue.locator(".verdict")).to_have_text(verdict)
        assert f"{verb} in a browser" in service.api_log
    await expect(queue.get_by_text("Paused by")).to_be_hidden()


async def test_a_dead_letter_is_redriven_with_a_reason(
    visit: Visit, alice: httpx.AsyncClient, admin_scopes: str, service: Service
) -> None:
    task = await submitted(alice, **TOO_LONG)
    await service.ended(alice, task["task_id"])
    visitor = await visit("/dashboard/dead-letters", user="an operator", scopes=admin_scopes)
    page = visitor.page
    letter = page.locator(".letter", has_text=task["task_id"])
    await letter.get_by_role("button", name="Redrive").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Why?").fill("tried in a browser")
    await dialog.get_by_role("button", name="Redrive").click()
    await visitor.sees(page.locator(".toast"), "It runs again")
    await expect(letter).to_have_count(0)
    assert "tried in a browser" in service.api_log
    async with service.client("an operator", scopes=admin_scopes) as operator:
        again: dict[str, Any] = (await operator.get(f"/v1/admin/tasks/{task['task_id']}")).json()
    assert again["run"] == 2
    await service.ended(alice, task["task_id"])


async def test_everybodys_tasks_are_listed(visit: Visit, alice: httpx.AsyncClient, admin_scopes: str) -> None:
    task = await submitted(alice, **SLOW, labels=["for-operators"])
    visitor = await visit("/dashboard/all-tasks?label=for-operators", user="an operator", scopes=admin_scopes)
    await visitor.sees(visitor.row(task["task_id"]), "Processing")
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")
    await visitor.sees(visitor.row(task["task_id"]), "Cancelled")
