"""axe finds nothing to complain of: in every view, as user and as operator, with tasks in all five states."""

import json
from pathlib import Path
from typing import Any

import axe_playwright_python
import httpx
import pytest
from playwright.async_api import Page

from tests.dashboard.conftest import Visit
from tests.dashboard.test_journeys import SLOW, TOO_LONG, submitted
from tests.dashboard.visitor import Visitor
from tests.support.service import Service

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
SIZES = {"wide": (1280, 800), "narrow": (360, 740)}


async def five_states(alice: httpx.AsyncClient, service: Service) -> dict[str, str]:
    """Make a task in each state; return their ids by status."""
    pending = await submitted(alice, action="noop", id=1, delay_seconds=3600, labels=["later"])
    processing = await submitted(alice, **SLOW, labels=["batch:7"])
    failed = await submitted(alice, **TOO_LONG, labels=["flaky"])
    cancelled = await submitted(alice, **SLOW)
    completed = await submitted(alice, action="transform_dataset", id=1024)
    await alice.post(f"/v1/workload/{cancelled['task_id']}/cancel")
    for task in (failed, cancelled, completed):
        await service.ended(alice, task["task_id"])
    made = {
        "PENDING": pending, "PROCESSING": processing, "FAILED": failed, "CANCELLED": cancelled, "COMPLETED": completed
    }  # fmt: skip
    return {status: task["task_id"] for status, task in made.items()}


async def violations(page: Page) -> list[dict[str, Any]]:
    """Run axe over the page as it is."""
    await page.evaluate(AXE)
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        {"rule": one["id"], "where": [(node["target"], node["failureSummary"]) for node in one["nodes"]][:3]}
        for one in found["violations"]
    ]


async def require_none(visitor: Visitor, what: str) -> None:
    found = await violations(visitor.page)
    assert not found, f"{what}: {json.dumps(found, indent=1)}"


async def look_at_everything(visitor: Visitor, tasks: dict[str, str], what: str, *, admin: bool) -> None:
    page = visitor.page
    for status, task_id in tasks.items():
        await visitor.sees(visitor.row(task_id), status.capitalize())
    await require_none(visitor, f"{what}: list")
    await page.get_by_label("Find a text").fill("nothing has this")
    await page.get_by_text("No task matches").wait_for()
    await require_none(visitor, f"{what}: nothing found")
    for status, task_id in tasks.items():
        await page.goto(f"/dashboard/tasks/{task_id}")
        await visitor.sees_status(status.capitalize())
        await require_none(visitor, f"{what}: {status}")
    await page.goto("/dashboard/submit?action=transform_dataset")
    await page.get_by_text("Options").click()
    await visitor.button("Submit").click()
    await visitor.sees(page.locator("#field-id-error"), "required")
    await require_none(visitor, f"{what}: form")
    if admin:
        for view, ready in (
            ("all-tasks", ".tasks li"),
            ("queues", ".queue"),
            ("workers", ".worker"),
            ("stalled", ".empty, .entry"),
            ("dead-letters", ".letter"),
        ):
            await page.goto(f"/dashboard/{view}")
            await page.locator(ready).first.wait_for()
            await require_none(visitor, f"{what}: {view}")
        await page.locator(".letter").first.get_by_role("button", name="Redrive").click()
        await require_none(visitor, f"{what}: dialog")


async def test_axe_finds_nothing(visit: Visit, alice: httpx.AsyncClient, service: Service, admin_scopes: str) -> None:
    """The short form: an operator, who sees every view that a user does, at night and on a phone."""
    width, height = SIZES["narrow"]
    tasks = await five_states(alice, service)
    visitor = await visit(scopes=admin_scopes, theme="dark", width=width, height=height)
    await look_at_everything(visitor, tasks, "operator, dark, narrow", admin=True)
    await alice.post(f"/v1/workload/{tasks['PROCESSING']}/cancel")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("role", ["user", "operator"])
async def test_axe_finds_nothing_anywhere(
    role: str, theme: str, size: str, visit: Visit, alice: httpx.AsyncClient, service: Service, admin_scopes: str
) -> None:
    width, height = SIZES[size]
    tasks = await five_states(alice, service)
    signed_out = await visit(signed_in=False, theme=theme, width=width, height=height)
    await signed_out.heading("Sign in").wait_for()
    await require_none(signed_out, f"sign in, {theme}, {size}")
    await signed_out.page.keyboard.press("Tab")
    scopes = admin_scopes if role == "operator" else None
    visitor = await visit(scopes=scopes, theme=theme, width=width, height=height)
    await look_at_everything(visitor, tasks, f"{role}, {theme}, {size}", admin=role == "operator")
    await alice.post(f"/v1/workload/{tasks['PROCESSING']}/cancel")
