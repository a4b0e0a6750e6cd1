"""The API dies while somebody watches: the page says so, and when it is back, it goes on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import yaml
from playwright.async_api import expect

from stack.ports import free_port
from tests.dashboard.conftest import Visit
from tests.dashboard.test_journeys import SLOW, submitted
from tests.support.service import Service


@pytest.fixture
async def other_api(service: Service, tmp_path: Path) -> AsyncIterator[Service]:
    """A second API of the same service, which may be killed."""
    values = yaml.safe_load(service.config.read_text())
    values["api"]["port"] = free_port()
    values["public_url"] = f"http://127.0.0.1:{values['api']['port']}"
    other = Service(tmp_path / "other", values)
    try:
        await other.start_api()
        yield other
    finally:
        other.stop()


@pytest.mark.parametrize(
    "place",
    [pytest.param("the list", marks=pytest.mark.slow), "a task", pytest.param("the queues", marks=pytest.mark.slow)],
)
async def test_a_lost_connection_is_said_and_so_is_its_return(
    place: str, visit: Visit, other_api: Service, alice: httpx.AsyncClient, admin_scopes: str
) -> None:
    task = await submitted(alice, **SLOW)
    path = {"the list": "", "a task": f"/tasks/{task['task_id']}", "the queues": "/queues"}[place]
    visitor = await visit(f"/dashboard{path}", base_url=other_api.base_url, scopes=admin_scopes)
    page = visitor.page
    shown = {
        "the list": visitor.row(task["task_id"]),
        "a task": page.locator(".task-title .status"),
        "the queues": page.get_by_role("region", name="Queue bench"),
    }[place]
    await shown.wait_for()
    banner = page.locator("#banner")
    await expect(banner).to_be_empty()

    other_api.apis.pop().kill()
    await visitor.sees(banner, "Connection lost.")
    await visitor.sees(page.locator(".state"), "No connection")
    await expect(shown).to_be_visible()
    await alice.post(f"/v1/workload/{task['task_id']}/cancel")

    await visitor.button("Try now").click()
    await visitor.sees(banner, "Connection lost.")
    # That it is back is said for some seconds, from the first answer on: perhaps before we know it ourselves.
    await asyncio.gather(other_api.start_api(), expect(banner).to_contain_text("Connected again.", timeout=120_000))
    if place != "the queues":
        await visitor.sees(shown, "Cancelled")
    await expect(banner).to_be_empty()
