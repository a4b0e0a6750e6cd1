"""What browsers are told: nothing of ours is sniffed or framed, and pages run no script but our files."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from app.main import ROUTERS
from tests.support.service import Service

PAGES = ["/docs", "/problems", "/problems/validation"]


class Inline(HTMLParser):
    """Collects what a page says itself instead of loading it: scripts, styles, handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if (tag == "script" and "src" not in names) or tag == "style":
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]
        self.found += [value for _, value in attrs if value and re.match(r"javascript:|https?:", value)]


@pytest.fixture
async def browser(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.base_url)


async def test_every_page_loads_files_of_ours_and_nothing_else(browser: httpx.AsyncClient) -> None:
    """Every page is found: what answers with HTML on a path without a parameter, and a problem's."""
    async with browser:
        paths = {route.path for router in ROUTERS for route in router.routes if "{" not in route.path}
        found = set()
        for path in sorted(paths | set(PAGES)):
            answer = await browser.get(path)
            if not answer.headers["content-type"].startswith("text/html"):
                continue
            found.add(path)
            policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            page = Inline()
            page.feed(answer.text)
            assert page.found == [], path
        assert found >= set(PAGES)


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/docs", "/static/page.css", "/v1/workload", "/nowhere"])
async def test_every_answer_forbids_sniffing_framing_and_referrers(browser: httpx.AsyncClient, path: str) -> None:
    async with browser:
        answer = await browser.get(path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
