"""Posting: one attempt at one receiver. The connection goes to an address that was checked, or is not opened.

The check sits where the socket is opened, below everything that might go elsewhere: httpcore asks for a connection to a
*name*; what it gets is one to an address of that name, all of whose addresses were checked just now. So there is no
second look-up between check and use, and `Host`, SNI and the certificate are still the name's. Nothing else is on:
redirects, proxies, the environment, cookies, kept connections, decompression.
"""

import asyncio
import email.utils
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import httpcore

from app.domain.errors import ForbiddenDestination, LonghaulError
from app.imports import without_colour
from app.webhooks.destination import Destination, Destinations, Lookup

with without_colour():
    import httpx

MAX_ANSWER: Final = 65_536
MAX_LOCATION: Final = 2048


class Unanswered(LonghaulError):
    """The receiver did not answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered; its body is read, so that it sees no broken connection, and thrown away."""

    status: int
    location: str | None
    retry_after: timedelta | None


class Poster:
    """Posts webhooks."""

    def __init__(
        self,
        destinations: Destinations,
        lookup: Lookup,
        *,
        timeout: timedelta,
        connect_timeout: timedelta,
        ca_file: Path | None = None,
    ) -> None:
        """Take the rule.

        Args:
            destinations: What may be called.
            lookup: Finds a name's addresses.
            timeout: For a whole attempt.
            connect_timeout: For the look-up and the connection, and again for TLS.
            ca_file: Certificate authorities beside the public ones; PEM.
        """
        self._destinations = destinations
        self._lookup = lookup
        self._timeout = timeout.total_seconds()
        self._connect_timeout = connect_timeout.total_seconds()
        self._tls = httpx.create_ssl_context(trust_env=False)
        if ca_file is not None:
            self._tls.load_verify_locations(cafile=ca_file)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post once.

        Raises:
            ForbiddenDestination: It may not be called; nothing was connected to.
            Unanswered: No connection, no TLS, no answer in time, or one that is not HTTP.
        """
        destination = self._destinations.read(url)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(destination, headers, body)
        except TimeoutError as error:
            raise Unanswered("timeout") from error
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unanswered(_reason(error)) from error

    async def _post(self, destination: Destination, headers: Mapping[str, str], body: bytes) -> Answer:
        own = {"Host": destination.authority, "Content-Length": str(len(body)), "Connection": "close"}
        network = _CheckedNetwork(self._destinations, self._lookup, destination)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=network) as pool,
            pool.stream(
                "POST",
                httpcore.URL(
                    scheme=destination.scheme.encode(),
                    host=destination.host.encode(),
                    port=destination.port,
                    target=destination.target.encode(),
                ),
                headers=list((own | dict(headers)).items()),
                content=body,
                extensions={"timeout": {"connect": self._connect_timeout}},
            ) as response,
        ):
            received = 0
            async for chunk in response.aiter_stream():
                received += len(chunk)
                if received > MAX_ANSWER:
                    break
            return _answer(response)


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections to checked addresses of one destination."""

    def __init__(self, destinations: Destinations, lookup: Lookup, destination: Destination) -> None:
        self._destinations = destinations
        self._lookup = lookup
        self._destination = destination
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look the name up, check every address, and connect to the first that takes it, within `timeout` in all."""
        destination = self._destination
        if (host, port) != (destination.host, destination.port):
            raise ForbiddenDestination
        async with asyncio.timeout(timeout):
            literal = destination.address
            addresses = [literal] if literal is not None else await self._lookup.addresses(host)
            self._destinations.check(destination, addresses)
            refusal: httpcore.ConnectError | None = None
            for address in addresses:
                try:
                    stream = await self._inner.connect_tcp(str(address), port, None, local_address, socket_options)
                except httpcore.ConnectError as error:
                    refusal = error
                    continue
                if ip_address(stream.get_extra_info("server_addr")[0]) != address:
                    await stream.aclose()
                    raise ForbiddenDestination
                return stream
            raise refusal or httpcore.ConnectError("no address")

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Refuse: no webhook goes to a file."""
        raise ForbiddenDestination

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def _answer(response: httpcore.Response) -> Answer:
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    location = headers.get(b"location")
    return Answer(
        status=response.status,
        location=location[:MAX_LOCATION] if location else None,
        retry_after=_retry_after(headers.get(b"retry-after", "")),
    )


def _retry_after(text: str) -> timedelta | None:
    """Read Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return timedelta(seconds=int(text))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second for a year or a zone of twenty digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(timedelta(0), moment - datetime.now(UTC))


def _reason(error: Exception) -> str:
    """Say in a few words why there was no answer: what a receiver's owner can act on, and nothing of ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        cause = cause.__cause__ or cause.__context__
    match error:
        case httpcore.TimeoutException():
            return "timeout"
        case httpcore.ProtocolError():
            return "the answer is not HTTP"
        case httpcore.ConnectError():
            return "cannot connect"
        case httpcore.NetworkError():
            return "the connection broke"
        case _:
            return "the name cannot be resolved"
