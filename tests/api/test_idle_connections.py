"""An idle connection is closed by its client, never by us: what the client sends in that moment would be lost."""

import re
from pathlib import Path

import httpx
from fastapi import FastAPI

from app.api.server import ApiServer
from app.settings import ApiSettings

SITE = Path(__file__).parents[2] / "nginx" / "longhaul.conf"


def test_the_api_waits_longer_than_httpx_and_our_nginx() -> None:
    found = re.search(r"^ *keepalive_timeout (\d+)s;", SITE.read_text(), re.MULTILINE)
    ours = ApiServer(FastAPI(), ApiSettings(), host="127.0.0.1", port=0).config.timeout_keep_alive
    theirs = httpx.Limits().keepalive_expiry
    assert found
    assert theirs
    assert ours > max(int(found[1]), theirs) + 10
