"""A user's way through the dashboard, in a real Chromium on a real service."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from tests.dashboard.conftest import Visit
from tests.support.service import Service

SLOW = {"action": "sleep", "seconds": 600, "steps": 600}
TOO_LONG = {"action": "sleep", "seconds": 60, "steps": 1, "timeout_seconds": 0.2, "max_attempts": 1}


async def submitted(client: httpx.AsyncClient, **order: Any) -> dict[str, Any]:
    answer = await client.post("/v1/workload", json=order)
    assert answer.status_code == 202, answer.text
    task: dict[str, Any] = answer.json()
    return task


async def test_from_the_token_to_the_downloaded_file(
    visit: Visit, service: Service, subject: str, tmp_path: Path
) -> None:
    """Sign in, submit by the form, watch it to its end, download the file."""
    visitor = await visit(signed_in=False)
    page = visitor.page
    await visitor.heading("Sign in").wait_for()
    await page.get_by_label("Access token").fill("nonsense")
    await visitor.button("Sign in").click()
    await visitor.sees(page.get_by_role("alert"), "This is not a token")
    await page.get_by_label("Access token").fill(service.token("somebody") + "x")
    await visitor.button("Sign in").click()
    await visitor.sees(page.get_by_role("alert"), "not valid here")
    await page.get_by_label("Access token").fill(service.token(subject))
    await visitor.button("Sign in").click()
    await visitor.sees(page.get_by_role("main"), "No tasks yet")
    assert await page.evaluate("Object.keys(localStorage).length") == 0, "the token stays in the tab"

    await page.get_by_role("link", name="Submit a task").click()
    await page.get_by_role("radio", name="transform_dataset").check()
    await visitor.button("Submit").click()
    await visitor.sees(page.locator("#field-id-error"), "This is required")
    await page.locator("#field-id").select_option(label="1024")
    await page.get_by_text("Options").click()
    await page.get_by_label("Labels").fill("nightly, from-the-form")
    await visitor.button("Submit").click()

    await visitor.heading("transform_dataset").wait_for()
    bar = page.get_by_role("progressbar", name="Progress")
    await expect(bar).to_have_attribute("aria-valuenow", "100", timeout=90_000)
    await visitor.sees_status("Completed")
    await visitor.sees(page.locator(".facts"), "from-the-form")
    async with page.expect_download() as downloading:
        await page.get_by_role("button", name="Download").click()
    download = await downloading.value
    await download.save_as(tmp_path / download.suggested_filename)
    assert next(tmp_path.glob("*.parquet")).read_bytes()[:4] == b"PAR1"


async def test_what_the_api_refuses_stands_at_its_field(visit: Visit) -> None:
    visitor = await visit("/dashboard/submit?action=sleep")
    page = visitor.page
    await page.get_by_label("Seconds", exact=False).first.fill("-1")
    await visitor.button("Submit").click()
    await visitor.sees(page.locator("#field-seconds-error"), "greater than or equal to 0")
    await expect(page.locator("#field-seconds")).to_be_focused()
    await expect(page.locator("#field-seconds")).to_have_attribute("aria-invalid", "true")


async def test_cancel_then_run_again_then_delete(visit: Visit, alice: httpx.AsyncClient, service: Service) -> None:
    task = await submitted(alice, **SLOW)
    visitor = await visit(f"/dashboard/tasks/{task['task_id']}")
    page = visitor.page
    await visitor.sees_status("Processing")
    await expect(visitor.button("Requeue")).to_have_count(0)  # that is for operators
    await visitor.button("Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Keep it as it is").click()
    await visitor.sees_status("Processing")
    await visitor.button("Cancel").click()
    await visitor.button("Cancel the task").click()
    await visitor.sees_status("Cancelled")

    await visitor.button("Run again").click()
    await visitor.sees_status("Processing")
    await visitor.button("Cancel").click()
    await visitor.button("Cancel the task").click()
    await visitor.sees_status("Cancelled")

    await visitor.button("Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await visitor.heading("Tasks").wait_for()
    await visitor.sees(page.get_by_role("main"), "No tasks yet")
    assert (await alice.get(f"/v1/workload/status/{task['task_id']}")).status_code == 404


async def test_the_list_moves_by_itself_and_filters(visit: Visit, alice: httpx.AsyncClient, service: Service) -> None:
    failed = await submitted(alice, **TOO_LONG, labels=["flaky"])
    await service.ended(alice, failed["task_id"])
    visitor = await visit()
    page = visitor.page
    await visitor.sees(visitor.row(failed["task_id"]), "Failed")

    running = await submitted(alice, **SLOW, labels=["batch:7"])
    await visitor.sees(visitor.row(running["task_id"]), "Processing")
    await alice.post(f"/v1/workload/{running['task_id']}/cancel")
    await visitor.sees(visitor.row(running["task_id"]), "Cancelled")
    done = await submitted(alice, action="noop", id=7, labels=["batch:8"])
    await visitor.sees(visitor.row(done["task_id"]), "Completed")

    async def only(*tasks: dict[str, Any]) -> None:
        await expect(page.locator(".tasks li")).to_have_count(len(tasks))
        for task in tasks:
            await expect(visitor.row(task["task_id"])).to_be_visible()

    await only(failed, running, done)
    await page.get_by_role("button", name="Failed").click()
    await only(failed)
    await page.get_by_role("button", name="Cancelled").click()
    await only(failed, running)
    assert "status=FAILED" in page.url
    await page.reload()
    await only(failed, running)
    await visitor.button("Clear filters").click()
    await only(failed, running, done)
    await page.get_by_label("Action", exact=True).select_option("noop")
    await only(done)
    await page.get_by_label("Action", exact=True).select_option("")
    await page.get_by_label("Label", exact=True).fill("batch:7")
    await only(running)
    await page.get_by_label("Label", exact=True).fill("")
    await page.get_by_label("Find a text").fill("LONGER THAN")  # in what the error says
    await only(failed)
    await page.get_by_label("Find a text").fill("nowhere")
    await visitor.sees(page.get_by_role("main"), "No task matches")
    await page.get_by_label("Find a text").fill(done["task_id"][:8])
    await only(done)


async def test_a_link_with_a_task_token_opens_that_task_and_no_other(
    visit: Visit, alice: httpx.AsyncClient, service: Service
) -> None:
    task, other = await submitted(alice, **SLOW), await submitted(alice, action="noop", id=1)
    visitor = await visit(f"/dashboard/tasks/{task['task_id']}#token={task['task_token']}", signed_in=False)
    page = visitor.page
    await visitor.sees_status("Processing")
    assert "token" not in page.url, "nobody reads it from the address, or from the history"
    await expect(page.get_by_role("navigation")).to_have_count(0)
    await visitor.button("Cancel").click()
    await visitor.button("Cancel the task").click()
    await visitor.sees_status("Cancelled")
    await expect(visitor.button("Run again")).to_have_count(0)
    await page.goto(f"/dashboard/tasks/{other['task_id']}")
    await visitor.heading("Sign in").wait_for()


async def test_a_task_of_somebody_else_looks_like_none(visit: Visit, service: Service) -> None:
    async with service.client("the owner") as owner:
        task = await submitted(owner, action="noop", id=1)
    visitor = await visit(f"/dashboard/tasks/{task['task_id']}")
    await visitor.sees(visitor.page.get_by_role("main"), "There is no such task")


async def test_a_text_with_markup_stays_a_text(visit: Visit) -> None:
    visitor = await visit("/dashboard?q=<img src=x onerror=alert(1)>&label=<b>x</b>")
    await visitor.sees(visitor.page.get_by_role("main"), "No task matches")
    assert await visitor.page.locator("main img, main b").count() == 0
    await expect(visitor.page.get_by_label("Label", exact=True)).to_have_value("<b>x</b>")


async def test_the_curl_line_can_be_copied_and_holds_no_token(
    visit: Visit, alice: httpx.AsyncClient, service: Service
) -> None:
    task = await submitted(alice, action="noop", id=1)
    visitor = await visit(f"/dashboard/tasks/{task['task_id']}")
    page = visitor.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await visitor.button("Copy as curl").click()
    await visitor.sees(page.locator(".toast"), "curl line copied")
    line = await page.evaluate("navigator.clipboard.readText()")
    assert line == (
        f'curl -s {service.base_url}/v1/workload/status/{task["task_id"]} -H "Authorization: Bearer $TOKEN"'
    )


async def test_an_expired_token_leads_to_the_sign_in(visit: Visit, service: Service, subject: str) -> None:
    visitor = await visit("/dashboard/submit")
    page = visitor.page
    await visitor.heading("New task").wait_for()
    old = json.dumps(service.token(subject, ttl_seconds=-3600))
    await page.evaluate(f"sessionStorage.setItem('longhaul.token', {old})")
    await page.get_by_role("link", name="Tasks").first.click()
    await visitor.sees(page.get_by_role("alert"), "not valid any more")


async def test_all_of_it_by_keyboard(visit: Visit, alice: httpx.AsyncClient) -> None:
    tasks = [await submitted(alice, action="noop", id=number) for number in range(3)]
    visitor = await visit()
    page, keys = visitor.page, visitor.page.keyboard
    await expect(page.locator(".tasks li")).to_have_count(3)
    await keys.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await keys.press("j")
    await expect(visitor.row(tasks[2]["task_id"])).to_be_focused()
    await keys.press("j")
    await expect(visitor.row(tasks[1]["task_id"])).to_be_focused()
    await keys.press("ArrowDown")
    await keys.press("k")
    await expect(visitor.row(tasks[1]["task_id"])).to_be_focused()
    await keys.press("Enter")
    await visitor.heading("noop").wait_for()
    await keys.press("u")
    await visitor.heading("Tasks").wait_for()
    await keys.press("/")
    await expect(page.get_by_label("Find a text")).to_be_focused()
    await keys.press("n")
    await expect(page.get_by_label("Find a text")).to_have_value("n")
    await keys.press("Escape")
    await keys.press("n")
    await visitor.heading("New task").wait_for()
    await keys.press("?")
    await page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    await page.get_by_label("Single-key shortcuts").uncheck()
    await keys.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await keys.press("u")
    await expect(visitor.heading("New task")).to_be_visible()


async def test_on_a_phone_nothing_is_wider_than_the_screen(
    visit: Visit, alice: httpx.AsyncClient, admin_scopes: str
) -> None:
    task = await submitted(alice, action="noop", id=1, labels=["a" * 64, "b" * 64])
    visitor = await visit(width=360, height=740, scopes=admin_scopes)
    await visitor.row(task["task_id"]).wait_for()
    ready = {
        "": ".tasks li",
        "/submit": "form.card",
        "/all-tasks": ".tasks li",
        "/queues": ".queue",
        "/workers": ".worker",
        "/stalled": ".empty, .entry",
        "/dead-letters": ".empty, .entry",
        f"/tasks/{task['task_id']}": ".facts",
    }
    for view, shown in ready.items():
        await visitor.page.goto(f"/dashboard{view}")
        await visitor.page.locator(shown).first.wait_for()
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= 360, view


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_theme_follows_the_system_until_one_is_chosen(visit: Visit, theme: str) -> None:
    visitor = await visit(theme=theme)
    page = visitor.page

    async def paper() -> str:
        colour: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour

    by_system = await paper()
    button = page.get_by_role("button", name="Theme")
    seen = []
    for _ in range(3):
        await button.click()
        seen.append(await paper())
    assert seen[2] == by_system
    assert seen[0] != seen[1]
    await button.click()
    await page.reload()
    assert await paper() == seen[0], "the choice is kept"
