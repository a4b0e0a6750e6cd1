"""The address rule: nothing that is not public is ever connected to, and everything public may be called."""

import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.domain.errors import ForbiddenDestination
from app.webhooks.destination import Address, Destination, Destinations, SystemLookup
from tests.webhooks.hostile import HOSTILE, NAMES, PORTS, HostileLookup

ROOT = Path(__file__).parents[2]
PRODUCTION = Destinations(allow=[], ports=[80, 443, 8080, 8443], development=False)


def test_the_corpus_makes_no_connection() -> None:
    """In a network where each of the addresses can be reached, and listens."""
    allowed = ["unshare", "-rn", sys.executable]
    if subprocess.run([*allowed, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us make a network namespace")
    done = subprocess.run(
        [*allowed, "-m", "tests.webhooks.hostile"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["control"] > 100
    assert told["connected"] == []
    assert len(told["outcomes"]) > 100
    assert {url: outcome for url, outcome in told["outcomes"].items() if outcome != "forbidden"} == {}


@pytest.mark.parametrize("url", HOSTILE)
async def test_the_corpus_is_refused_at_submission(url: str) -> None:
    with pytest.raises(ForbiddenDestination):
        await PRODUCTION.check_name(PRODUCTION.read(url), HostileLookup(), seconds=10)


PUBLIC = {
    "http://example.com/": Destination("http", "example.com", 80, "/"),
    "HTTPS://Example.COM": Destination("https", "example.com", 443, "/"),
    "https://example.com.:8443/a/b?c=d&e=%20": Destination("https", "example.com", 8443, "/a/b?c=d&e=%20"),
    "http://93.184.215.14:8080/x": Destination("http", "93.184.215.14", 8080, "/x"),
    "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/": Destination(
        "https", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", 443, "/"
    ),
    "https://bücher.example/?": Destination("https", "xn--bcher-kva.example", 443, "/?"),
    "https://a_b.hooks.example.com/~u;v=1,2": Destination("https", "a_b.hooks.example.com", 443, "/~u;v=1,2"),
    "https://1.2.3.4.example.com/": Destination("https", "1.2.3.4.example.com", 443, "/"),
}


@pytest.mark.parametrize("url", PUBLIC)
async def test_public_receivers_are_taken(url: str) -> None:
    read = PRODUCTION.read(url)
    assert read == PUBLIC[url]
    await PRODUCTION.check_name(read, HostileLookup(), seconds=10)  # it does not resolve yet: tried at sending


async def test_a_name_server_that_hangs_holds_up_no_submission() -> None:
    class Hanging:
        async def addresses(self, host: str) -> list[Address]:
            raise TimeoutError

    await PRODUCTION.check_name(PRODUCTION.read("http://example.com/"), Hanging(), seconds=10)


async def test_development_opens_one_address_and_no_name_for_it() -> None:
    development = Destinations(allow=[], ports=[80, 443], development=True)
    assert development.read("http://127.0.0.1:12345/hook").port == 12345
    for url in set(HOSTILE) - {
        "http://127.0.0.1/",
        "http://127.0.0.1:8080/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1./",
    }:
        with pytest.raises(ForbiddenDestination):
            await development.check_name(development.read(url), HostileLookup(), seconds=10)


async def test_the_allow_list_opens_what_it_names() -> None:
    opened = Destinations(allow=["10.0.0.0/8", "metadata.google.internal", "Localhost"], ports=[80], development=False)
    assert opened.read("http://10.9.8.7:6000/").port == 6000
    await opened.check_name(opened.read("http://internal.example.com/"), HostileLookup(), seconds=10)
    await opened.check_name(opened.read("http://localhost:6000/"), HostileLookup(), seconds=10)
    for url in ("http://10.1/", "http://192.168.0.1/", "http://127.0.0.1/", "http://internal.example.com:6000/"):
        with pytest.raises(ForbiddenDestination):
            opened.read(url)
    with pytest.raises(ForbiddenDestination):  # whoever owns an allowed name's zone does not get at the metadata
        await opened.check_name(opened.read("http://metadata.google.internal/"), HostileLookup(), seconds=10)


async def test_the_systems_resolver_gives_all_addresses() -> None:
    lookup = SystemLookup()
    try:
        assert ip_address("127.0.0.1") in await lookup.addresses("localhost")
        with pytest.raises(OSError):  # noqa: PT011
            await lookup.addresses("no-such-name.invalid")
    finally:
        lookup.close()


def test_the_corpus_is_large_enough() -> None:
    assert len(set(HOSTILE)) >= 40
    assert len(NAMES) >= 10
    assert 22 in PORTS
