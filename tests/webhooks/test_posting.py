"""One attempt: to the checked address, under the name's certificate, once, bounded."""

import asyncio
import ssl
from collections.abc import Awaitable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.domain.errors import ForbiddenDestination
from app.webhooks.destination import Address, Destinations
from tests.support.receivers import Authority, Received, Reply, receiver
from workers.webhooks.posting import MAX_ANSWER, Answer, Poster, Unanswered

BODY = b'{"task_id":"x"}'
WIDE = timedelta(seconds=30)


class Names:
    """A name server with one entry."""

    def __init__(self, **entries: str) -> None:
        self._entries = entries
        self.asked: list[str] = []

    async def addresses(self, host: str) -> list[Address]:
        self.asked.append(host)
        text = self._entries.get(host.partition(".")[0])
        if text is None:
            raise OSError("no such name")
        return [ip_address(one) for one in text.split()]


def poster(
    lookup: Names | None = None, *, allow: tuple[str, ...] = ("127.0.0.0/8",), timeout: timedelta = WIDE,
    ca_file: Path | None = None, ports: tuple[int, ...] = (80,),
) -> Poster:  # fmt: skip
    rule = Destinations(allow=allow, ports=ports, development=False)
    return Poster(rule, lookup or Names(), timeout=timeout, connect_timeout=timeout, ca_file=ca_file)


async def test_the_raw_bytes_arrive_with_the_right_host() -> None:
    async with receiver(lambda _: (204, {"Retry-After": "7"})) as hook:
        answer = await poster().post(f"http://127.0.0.1:{hook.port}/a?b=c", {"X-One": "1"}, BODY)
        assert answer == Answer(204, None, timedelta(seconds=7))
        (request,) = hook.received
        assert (request.path, request.body) == ("/a?b=c", BODY)
        assert request.headers["host"] == f"127.0.0.1:{hook.port}"
        assert request.headers["x-one"] == "1"
        assert "accept-encoding" not in request.headers


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2030 00:00:00 +99999999999999999999",
        "Mon, 31 Feb 2030 00:00:00 GMT",
    ],
)
async def test_a_retry_after_that_is_none_is_passed_over(text: str) -> None:
    """An attempt that it broke off would be made again and again, and never be recorded."""
    async with receiver(lambda _: (503, {"Retry-After": text})) as hook:
        assert await poster().post(hook.url, {}, BODY) == Answer(503, None, None)


async def test_a_redirect_is_not_followed() -> None:
    async with receiver() as elsewhere, receiver(lambda _: (302, {"Location": elsewhere.url})) as hook:
        answer = await poster().post(hook.url, {}, BODY)
        assert (answer.status, answer.location) == (302, elsewhere.url)
        assert elsewhere.connections == 0


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as proxy, receiver() as hook:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await poster().post(hook.url, {}, BODY)).status == 200
        assert proxy.connections == 0


async def test_https_is_for_the_name_and_goes_to_the_checked_address(tmp_path: Path) -> None:
    authority, names = Authority(tmp_path), Names(hooks="127.0.0.1")
    async with receiver(tls=authority.context("hooks.example.com")) as hook:
        sender = poster(names, ca_file=authority.file, allow=("127.0.0.0/8", "hooks.example.com"))
        answer = await sender.post(f"https://hooks.example.com:{hook.port}/x", {}, BODY)
        assert answer.status == 200
        assert hook.received[0].headers["host"] == f"hooks.example.com:{hook.port}"
        assert hook.names == ["hooks.example.com"]  # by SNI
        assert names.asked == ["hooks.example.com"]  # once: what was checked is what was called


async def test_a_certificate_of_another_name_or_of_nobody_known_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    names, allow = (
        Names(other="127.0.0.1", hooks="127.0.0.1"),
        ("127.0.0.0/8", "other.example.com", "hooks.example.com"),
    )
    async with receiver(tls=authority.context("hooks.example.com")) as hook:
        with pytest.raises(Unanswered, match="TLS"):
            await poster(names, allow=allow, ca_file=authority.file).post(
                f"https://other.example.com:{hook.port}/", {}, BODY
            )
        with pytest.raises(Unanswered, match="TLS"):
            await poster(names, allow=allow).post(f"https://hooks.example.com:{hook.port}/", {}, BODY)
        assert hook.received == []


async def test_https_to_an_address_needs_a_certificate_for_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with receiver(tls=authority.context("127.0.0.1")) as hook:
        assert (await poster(ca_file=authority.file).post(f"https://127.0.0.1:{hook.port}/", {}, BODY)).status == 200


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    async with receiver(host="127.0.0.3") as hook:
        rule = ("127.0.0.0/8", "hooks.example.com")
        answer = await poster(Names(hooks="127.0.0.2 127.0.0.3"), allow=rule).post(
            f"http://hooks.example.com:{hook.port}/", {}, BODY
        )
        assert answer.status == 200


async def test_one_forbidden_address_forbids_the_name() -> None:
    async with receiver() as hook:
        with pytest.raises(ForbiddenDestination):
            await poster(Names(hooks="127.0.0.1 10.0.0.1"), ports=(hook.port,)).post(
                f"http://hooks.example.com:{hook.port}/", {}, BODY
            )
        assert hook.connections == 0


def _hang(_: Received) -> Awaitable[Reply]:
    async def never() -> Reply:
        await asyncio.Event().wait()
        return 200, {}

    return never()


async def test_a_receiver_that_hangs_is_given_up() -> None:
    async with receiver(_hang) as hook:
        with pytest.raises(Unanswered, match="timeout"):
            await poster(timeout=timedelta(seconds=0.5)).post(hook.url, {}, BODY)


async def test_a_receiver_that_trickles_is_given_up_and_a_large_answer_is_cut() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except OSError:
            writer.close()

    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        except OSError:
            writer.close()

    async with (
        await asyncio.start_server(trickle, "127.0.0.1") as slow,
        await asyncio.start_server(flood, "127.0.0.1") as large,
    ):
        with pytest.raises(Unanswered, match="timeout"):
            await poster(timeout=timedelta(seconds=0.5)).post(_url(slow), {}, BODY)
        assert (await poster().post(_url(large), {}, BODY)).status == 200
        assert sent < 1000 * MAX_ANSWER


def _url(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_what_is_not_http_and_who_is_not_there_are_told_apart() -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1") as server:
        with pytest.raises(Unanswered, match=r"not HTTP|connection broke"):
            await poster().post(_url(server), {}, BODY)
        closed = _url(server)
    with pytest.raises(Unanswered, match="refused"):
        await poster().post(closed, {}, BODY)
    with pytest.raises(Unanswered, match="resolved"):
        await poster().post("http://nobody.example.com/", {}, BODY)


def test_the_certificates_of_the_public_internet_are_known() -> None:
    known = ssl.create_default_context().verify_mode
    assert poster()._tls.verify_mode == known == ssl.CERT_REQUIRED
    assert poster()._tls.check_hostname
