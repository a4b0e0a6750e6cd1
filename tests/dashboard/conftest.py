"""A real Chromium, and visitors in it, each with a profile of his own. What a page complains of fails the test."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from playwright.async_api import Browser, async_playwright

from tests.dashboard.visitor import Visitor
from tests.support.service import Service

FLAGS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]
ADMIN = "workload:submit workload:read workload:admin"

Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS  # as root it starts in no other way
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield running
        await running.close()


@pytest.fixture
async def visit(browser: Browser, service: Service, subject: str) -> AsyncIterator[Visit]:
    """Open the dashboard: `visit(path, scopes=…, base_url=…, signed_in=…, **context)`, as this test's own user."""
    async with AsyncExitStack() as stack:
        visitors: list[Visitor] = []

        async def opened(
            path: str = "/dashboard",
            *,
            user: str = subject,
            scopes: str | None = None,
            base_url: str = service.base_url,
            signed_in: bool = True,
            width: int = 1280,
            height: int = 800,
            theme: str = "light",
        ) -> Visitor:
            context = await browser.new_context(
                base_url=base_url,
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
                accept_downloads=True,
            )
            stack.push_async_callback(context.close)
            visitor = Visitor(await context.new_page())
            visitors.append(visitor)
            if signed_in:
                await visitor.bring_token(service.token(user, scopes=scopes))
            await visitor.page.goto(path)
            return visitor

        yield opened
        for visitor in visitors:
            visitor.require_no_complaint()


@pytest.fixture
def admin_scopes() -> str:
    """What an operator's token has."""
    return ADMIN
