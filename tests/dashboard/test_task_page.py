"""What a task's own page tells of it: its log, its history, and what became of its webhook."""

import httpx
from playwright.async_api import expect

from tests.api.staging import Staging
from tests.dashboard.conftest import Visit
from tests.dashboard.test_journeys import submitted
from tests.support.receivers import receiver
from tests.support.service import Service
from tests.support.waiting import wait_until


async def test_log_lines_come_live_after_those_that_were_there(visit: Visit, staging: Staging) -> None:
    task_id, token = await staging.processing()
    await staging.log(task_id, token, "one", "two")
    visitor = await visit(f"/dashboard/tasks/{task_id}")
    lines = visitor.page.get_by_role("log", name="Log").locator(".log-text")
    await expect(lines).to_have_text(["one", "two"])
    await staging.log(task_id, token, "<b>three</b>")
    await expect(lines).to_have_text(["one", "two", "<b>three</b>"])
    await staging.store.beat(task_id, 1, token, progress=40, message="nearly half")
    await visitor.sees(visitor.page.locator(".journey"), "nearly half")
    await staging.end(task_id)
    await visitor.sees_status("Completed")
    past = visitor.page.get_by_role("region", name="History").get_by_role("listitem")
    await expect(past.locator("span")).to_have_text(["Accepted", "Started", "40 %: nearly half", "Completed"])


async def test_a_webhook_that_was_not_taken_is_seen_and_sent_again(
    visit: Visit, alice: httpx.AsyncClient, service: Service
) -> None:
    async with receiver(lambda _: (410, {})) as hook:
        task = await submitted(alice, action="noop", id=1, callback_url=hook.url)
        await service.ended(alice, task["task_id"])
        visitor = await visit(f"/dashboard/tasks/{task['task_id']}")
        deliveries = visitor.page.get_by_role("region", name="Webhook deliveries").locator(".delivery")
        await visitor.sees(deliveries.first, "HTTP 410")
        await visitor.sees(visitor.page.locator(".facts"), "stopped, 1 attempt")
        hook.answer = lambda _: (204, {})
        await visitor.button("Send again: workload.completed").first.click()
        await visitor.sees(visitor.page.locator(".toast"), "It is sent again")

        async def arrived() -> bool:
            return len(hook.received) == 2

        await wait_until(arrived, what="the second sending")
        await visitor.sees(deliveries.first, "delivered")
        await expect(deliveries).to_have_count(2)
        await visitor.sees(visitor.page.locator(".facts"), "delivered, 2 attempts")


async def test_an_operator_sends_somebody_elses_webhook_again_and_says_why(
    visit: Visit, alice: httpx.AsyncClient, service: Service
) -> None:
    async with receiver(lambda _: (410, {})) as hook:
        task = await submitted(alice, action="noop", id=1, callback_url=hook.url)
        await service.ended(alice, task["task_id"])
        visitor = await visit(
            f"/dashboard/tasks/{task['task_id']}", user="an operator", scopes="workload:admin workload:read"
        )
        deliveries = visitor.page.get_by_role("region", name="Webhook deliveries").locator(".delivery")
        await visitor.sees(deliveries.first, "HTTP 410")
        hook.answer = lambda _: (204, {})
        await visitor.button("Send again: workload.completed").first.click()
        await visitor.says_why("their outage is over", verb="Send again")
        await visitor.sees(visitor.page.locator(".toast"), "It is sent again")
        await visitor.sees(deliveries.first, "delivered")
        assert len(hook.received) == 2
