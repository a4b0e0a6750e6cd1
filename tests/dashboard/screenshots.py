"""Takes the pictures of `docs/images` anew, from a running stack (`make up`): look at each before it is committed.

    make screenshots [SCREENSHOTS="--all DIRECTORY"]

With `--all`, every view instead, as user and as operator, light and dark, wide and narrow: for whoever changes a view.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.dashboard.test_journeys import TOO_LONG, submitted
from tests.support.receivers import receiver
from tests.support.waiting import wait_until

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SIZES: Final = {"wide": (1280, 800), "narrow": (390, 760)}
CHARTED_SECONDS: Final = 100
"""How long the queues are watched before their picture is taken: that much of a chart has a line."""

Orders = dict[str, dict[str, Any]]
PAST: Final[Orders] = {
    "completed": {"action": "generate_report", "id": 1024, "labels": ["weather", "nightly", "team:data"]},
    "exported": {"action": "transform_dataset", "id": 1025, "labels": ["flights", "nightly"]},
    "failed": {**TOO_LONG, "timeout_seconds": 1.5, "labels": ["import:eu"]},
    "cancelled": {"action": "sleep", "seconds": 600, "steps": 300, "labels": ["import:us"]},
    "quick": {"action": "noop", "id": 7, "labels": ["probe"]},
}
PRESENT: Final[Orders] = {
    "backfill": {"action": "sleep", "seconds": 400, "steps": 400, "labels": ["import:ap", "backfill"]},
    "pending": {"action": "noop", "id": 8, "delay_seconds": 6600, "labels": ["tonight"]},
    "report": {"action": "generate_report", "id": 1025, "labels": ["flights", "weekly"]},
}


async def stage(alice: httpx.AsyncClient, orders: Orders) -> dict[str, str]:
    """Submit tasks; return their ids, once those that end have ended."""
    ids = {name: (await submitted(alice, **order))["task_id"] for name, order in orders.items()}
    if "cancelled" in ids:
        await in_state(alice, ids["cancelled"], "PROCESSING")
        await alice.post(f"/v1/workload/{ids['cancelled']}/cancel")
    for name in ids.keys() & PAST.keys():
        await in_state(alice, ids[name], "COMPLETED", "FAILED", "CANCELLED")
    return ids


async def in_state(alice: httpx.AsyncClient, task_id: str, *statuses: str) -> None:
    async def is_in_it() -> bool:
        return (await alice.get(f"/v1/workload/status/{task_id}")).json()["status"] in statuses

    await wait_until(is_in_it, timeout=300, what=f"{statuses} of {task_id}")


async def visit(browser: Browser, base_url: str, token: str, path: str, *, size: tuple[int, int], theme: str) -> Page:
    """Open a view, as the holder of a token."""
    context = await browser.new_context(
        base_url=base_url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = await context.new_page()
    if token:
        await page.add_init_script(f"sessionStorage.setItem('longhaul.token', {json.dumps(token)})")
    await page.goto(path)
    await page.locator("h1:not(.unseen)").first.wait_for()
    await page.wait_for_load_state("networkidle")
    return page


async def pictures(browser: Browser, stack: dict[str, Any], alice: httpx.AsyncClient) -> None:
    """Take those of the documentation."""
    base_url, tokens = stack["base_url"], stack["tokens"]
    queues = await visit(browser, base_url, tokens["admin"], "/dashboard/queues", size=(1280, 1010), theme="light")
    flow = asyncio.create_task(some_load(base_url, tokens["bob"]))
    await asyncio.gather(stage(alice, PAST), asyncio.sleep(CHARTED_SECONDS))
    ids = await stage(alice, PRESENT)
    path = f"/dashboard/tasks/{ids['report']}"
    wide = await visit(browser, base_url, tokens["alice"], path, size=(1280, 720), theme="light")
    phone = await visit(browser, base_url, tokens["alice"], path, size=(390, 760), theme="dark")
    tasks = await visit(browser, base_url, tokens["alice"], "/dashboard", size=(1280, 740), theme="light")
    half_done = re.compile(r"4[5-9]|[5-9]\d")
    await expect(wide.get_by_role("progressbar")).to_have_attribute("aria-valuenow", half_done, timeout=300_000)
    await queues.screenshot(path=IMAGES / "dashboard-queues.png")
    await wide.screenshot(path=IMAGES / "dashboard-task.png")
    await phone.screenshot(path=IMAGES / "dashboard-phone.png")
    await tasks.screenshot(path=IMAGES / "dashboard-tasks.png")
    flow.cancel()


async def some_load(base_url: str, token: str) -> None:
    """Let the queue `bench` have something to show: waves of short tasks, of a user whom no picture shows."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client:
        for number in itertools.count():
            for _ in range(2 + 3 * (number // 10 % 2)):
                await submitted(client, action="sleep", seconds=4, steps=4)
            await asyncio.sleep(1)


async def everything(browser: Browser, stack: dict[str, Any], alice: httpx.AsyncClient, directory: Path) -> None:
    """Take every view."""
    directory.mkdir(parents=True, exist_ok=True)
    async with receiver(lambda _: (503, {})) as hook:
        ids = await stage(alice, {**PAST, **PRESENT})
        called = await submitted(alice, action="noop", id=9, callback_url=hook.url)
        views = {
            "signin": "", "tasks": "", "none-found": "?q=nothing%20has%20this", "submit": "/submit?action=sleep",
            "task-called": f"/tasks/{called['task_id']}", "all-tasks": "/all-tasks", "queues": "/queues",
            "workers": "/workers", "stalled": "/stalled", "dead-letters": "/dead-letters",
            **{f"task-{name}": f"/tasks/{task_id}" for name, task_id in ids.items()},
        }  # fmt: skip
        for (name, path), theme, size, role in itertools.product(
            views.items(), ("light", "dark"), SIZES, ("alice", "admin")
        ):
            token = "" if name == "signin" else stack["tokens"][role]
            page = await visit(browser, stack["base_url"], token, f"/dashboard{path}", size=SIZES[size], theme=theme)
            if name == "submit":
                await page.get_by_role("button", name="Submit").click()
                await expect(page.locator(".wrong").first).not_to_be_empty()
            await page.screenshot(path=directory / f"{name}-{role}-{theme}-{size}.png", full_page=True)
            await page.context.close()


async def run(arguments: argparse.Namespace) -> None:
    """Take the pictures that are asked for."""
    stack = json.loads(Path(arguments.stack).read_text())
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    headers = {"Authorization": f"Bearer {stack['tokens']['alice']}"}
    async with (
        httpx.AsyncClient(base_url=stack["base_url"], headers=headers, timeout=30) as alice,
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags) as browser,
    ):
        if arguments.all:
            await everything(browser, stack, alice, Path(arguments.all))
        else:
            await pictures(browser, stack, alice)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", default=".run/stack.json")
    parser.add_argument("--all", metavar="DIRECTORY")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
