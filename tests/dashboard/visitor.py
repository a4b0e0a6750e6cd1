"""Somebody who looks at the dashboard."""

import json

from playwright.async_api import ConsoleMessage, Error, Locator, Page, expect

PATIENCE_MS = 20_000
"""How long something may take to show: the machine is slow and shared, and no promise is a figure here."""

expect.set_options(timeout=PATIENCE_MS)


class Visitor:
    """A page, and what it has complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", self._failed)
        page.on("console", self._said)

    async def bring_token(self, token: str) -> None:
        """Be signed in, in this tab, before the page starts."""
        await self.page.add_init_script(f"sessionStorage.setItem('longhaul.token', {json.dumps(token)})")

    def _failed(self, error: Error) -> None:
        self.complaints.append(f"an error that nobody caught: {error}")

    def _said(self, message: ConsoleMessage) -> None:
        # That a request was refused, or nobody answered, the browser says by itself; the page's own trouble is another.
        own = "Failed to load resource" not in message.text and "WebSocket connection to" not in message.text
        if message.type == "error" and own:
            self.complaints.append(message.text)

    def require_no_complaint(self) -> None:
        """Check that no script has failed, and that nothing was against the page's own policy."""
        assert not self.complaints, self.complaints

    # --- what is on the page

    def row(self, task_id: str) -> Locator:
        """A task in the list."""
        return self.page.locator(f'li[data-id="{task_id}"] a')

    def button(self, name: str) -> Locator:
        """A button, by its name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def heading(self, name: str) -> Locator:
        """The page's heading."""
        return self.page.get_by_role("heading", level=1, name=name, exact=True)

    async def says_why(self, reason: str, *, verb: str) -> None:
        """Answer the dialog that asks for a reason, and go through with it."""
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_label("Why?").fill(reason)
        await dialog.get_by_role("button", name=verb).click()

    async def sees(self, locator: Locator, text: str) -> None:
        """Wait until something reads so, in part."""
        await expect(locator).to_contain_text(text)

    async def sees_status(self, word: str) -> None:
        """Wait for a task's status on its own page."""
        await expect(self.page.locator(".task-title .status")).to_have_text(word)
