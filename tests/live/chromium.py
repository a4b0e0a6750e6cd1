"""A real browser, spoken to in its own DevTools protocol: enough to let a page run a script."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect

from stack.processes import Process
from tests.support.waiting import wait_until

PROGRAM: Final = Path("/usr/bin/chromium")
FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)


class Page:
    """One page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    async def open(self, url: str) -> None:
        """Go to a URL, and wait until it is there."""
        await self._ask("Page.enable")
        await self._ask("Page.navigate", url=url)

        async def there() -> bool:
            return bool(await self.run("document.readyState === 'complete' && location.href.startsWith('http')"))

        await wait_until(there, timeout=30, what=f"the page {url}")

    async def run(self, script: str) -> Any:
        """Return the value of an expression; a promise is waited for."""
        answer = await self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(60):
            while True:
                answer = json.loads(await self._connection.recv())
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    result: dict[str, Any] = answer["result"]
                    return result


@asynccontextmanager
async def browser_page(directory: Path) -> AsyncIterator[Page]:
    """Start a browser with a profile of its own, and end it."""
    profile = directory / "profile"
    process = Process(
        [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        log=directory / "chromium.log",
        environment=os.environ | {"HOME": str(directory)},
        die_with_parent=True,
    )
    try:
        told = profile / "DevToolsActivePort"

        async def listening() -> bool:
            assert process.is_running, (directory / "chromium.log").read_text()
            return told.exists() and "\n" in told.read_text()

        await wait_until(listening, timeout=60, what="the browser")
        port = told.read_text().splitlines()[0]
        async with httpx.AsyncClient(trust_env=False) as client:
            targets = (await client.get(f"http://127.0.0.1:{port}/json/list")).json()
        url = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        async with connect(url, max_size=None, proxy=None) as connection:
            yield Page(connection)
    finally:
        process.end(patience=10)
