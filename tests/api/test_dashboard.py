"""The dashboard's files: one page at all its addresses, nothing inline, nothing from elsewhere, kept for good."""

import re

import httpx
import pytest

from tests.api.problems import problem_of

ADDRESSES = [
    "/dashboard", "/dashboard/tasks/11e240a2-f0b8-4e1d-be93-731a0d5d4d94", "/dashboard/submit", "/dashboard/all-tasks",
    "/dashboard/queues",
    "/dashboard/workers", "/dashboard/stalled", "/dashboard/dead-letters",
]  # fmt: skip


@pytest.mark.parametrize("path", ADDRESSES)
async def test_the_page_is_there_without_a_token_under_a_strict_policy(path: str, anybody: httpx.AsyncClient) -> None:
    page = await anybody.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    assert not re.search(r"<style|<script>|\son\w+=|style=|https?://", page.text)
    again = await anybody.get(path, headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_every_file_that_the_page_names_is_there_for_good(anybody: httpx.AsyncClient) -> None:
    page = (await anybody.get("/dashboard")).text
    names = re.findall(r'(?:href|src)="(/dashboard/assets/[^"]+)"', page)
    assert len(names) > 10
    modules = {}
    for name in names:
        file = await anybody.get(name)
        assert file.status_code == 200, name
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        modules[name] = file.text
    for name, text in modules.items():  # what a module imports is among what the page loads at once
        for imported in re.findall(r'^import .* from "([^"]+)";$', text, re.MULTILINE):
            assert str(httpx.URL(f"http://x{name}").join(imported)).removeprefix("http://x") in modules, (
                name,
                imported,
            )


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard/",
        "/dashboard/none",
        "/dashboard/tasks/",
        "/dashboard/tasks/1",
        "/dashboard/assets/x/main.js",
        "/dashboard/assets/",
    ],
)
async def test_there_is_nothing_else(path: str, anybody: httpx.AsyncClient) -> None:
    problem_of(await anybody.get(path), "not-found")


async def test_files_of_another_version_are_not_mixed_with_ours(anybody: httpx.AsyncClient) -> None:
    page = (await anybody.get("/dashboard")).text
    name = re.findall(r'src="(/dashboard/assets/[^"]+/main.js)"', page)[0]
    digest = name.split("/")[3]
    assert (await anybody.get(name.replace(digest, digest[::-1]))).status_code == 404
    for other in ("index.html", "../index.html", "%2e%2e/index.html", "views", "none.js"):
        assert (await anybody.get(f"/dashboard/assets/{digest}/{other}")).status_code == 404
