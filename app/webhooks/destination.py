"""Destination: where a webhook may go. The address that is refused at submission is the address refused at sending.

A callback URL is a caller's text that makes *us* open a connection, from inside the network. So it is read by one
strict grammar (no second reading by another library that sees another host in it), and every address that its name has
must be public, not just the one that is used. A name may point elsewhere a second later: so the connection goes to the
address that was checked, and to no other (`workers/webhooks/posting.py`).

OWASP: Server-Side Request Forgery Prevention Cheat Sheet. Ranges: IANA's special-purpose address registries (RFC 6890).
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Protocol

import idna

from app.domain.errors import ForbiddenDestination

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEVELOPMENT_HOST: Final = "127.0.0.1"
"""In development mode callbacks to this very host are allowed: written so, and not a name that leads there."""
MAX_URL: Final = 2048
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?", re.IGNORECASE
)
AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
TARGET: Final = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]*")
LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label like this makes the whole host an IPv4 address in some spelling (WHATWG URL, "ends in a number")."""

GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All that IANA has given out; what lies outside is loopback, link-local, private, mapped, multicast or not in use."""

NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds have their metadata here
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation, as are 198.51.100.0/24 and 203.0.113.0/24
        "192.31.196.0/24",  # AS112, as is 192.175.48.0/24
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: holds an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
NEVER_BY_NAME: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text) for text in ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "ff00::/8")
)
"""Closed even to a name on the allow-list: whoever owns its zone must not reach a cloud's metadata by it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A callback URL, read. `host` is lower-case ASCII: a name without trailing dot, or an address without brackets."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as they were written."""

    @property
    def authority(self) -> str:
        """What stands in the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority: what is one receiver."""
        return f"{self.scheme}://{self.authority}"

    @property
    def address(self) -> Address | None:
        """The host, if it is an address."""
        return _address(self.host)


class Lookup(Protocol):
    """Finds a name's addresses."""

    async def addresses(self, host: str) -> list[Address]:
        """Return all of them.

        Raises:
            OSError: There is none, or nobody knows.
        """


class Destinations:
    """The address rule, under one configuration."""

    def __init__(self, *, allow: Iterable[str], ports: Collection[int], development: bool) -> None:
        """Take the rule's openings.

        Args:
            allow: Host names, addresses and networks (CIDR) that are open although they are not public.
            ports: Those that may stand in a URL; an allowed host may have any.
            development: Whether callbacks to 127.0.0.1 are open, on any port.
        """
        self._ports = frozenset(ports)
        self._names: set[str] = {DEVELOPMENT_HOST} if development else set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))

    def read(self, url: str) -> Destination:
        """Read a callback URL, and check what can be told without asking anybody.

        Raises:
            ForbiddenDestination: Its form, scheme, user information, port or address is not allowed.
        """
        destination = _read(url)
        address = destination.address
        if address is not None:
            self.check(destination, [address])
        if destination.port not in self._ports and not self._is_open(destination, address):
            raise ForbiddenDestination(f"Port {destination.port} may not be called.")
        return destination

    def check(self, destination: Destination, addresses: Iterable[Address]) -> None:
        """Check every address that a destination's host has.

        Raises:
            ForbiddenDestination: One of them may not be called.
        """
        by_name = destination.host in self._names
        for address in addresses:
            if is_public(address) or any(address in network for network in self._networks):
                continue
            if by_name and not any(address in network for network in NEVER_BY_NAME):
                continue
            raise ForbiddenDestination("It leads to an address that is not public.")

    async def check_name(self, destination: Destination, lookup: Lookup, *, seconds: float) -> None:
        """Look a name up and check its addresses, if it has any by now: it is looked up again at each attempt.

        Raises:
            ForbiddenDestination: One of its addresses may not be called.
        """
        if destination.address is not None:
            return
        try:
            async with asyncio.timeout(seconds):
                addresses = await lookup.addresses(destination.host)
        except OSError:  # TimeoutError is one, too
            return
        self.check(destination, addresses)

    def _is_open(self, destination: Destination, address: Address | None) -> bool:
        return destination.host in self._names or (
            address is not None and any(address in network for network in self._networks)
        )


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet. What holds another address inside (mapped, 6to4) is not."""
    if isinstance(address, IPv6Address) and (address not in GLOBAL_UNICAST or address.scope_id):
        return False
    return not any(address in network for network in NOT_PUBLIC)


class SystemLookup:
    """The system's resolver, in threads of its own: a name server that hangs holds up nobody but those who ask it.

    Who asks for a name that is being looked up already waits for the same answer; nothing is remembered afterwards.
    """

    THREADS: Final = 32

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.THREADS, thread_name_prefix="lookup")
        self._asked: dict[str, asyncio.Future[list[Address]]] = {}

    async def addresses(self, host: str) -> list[Address]:
        """Return a name's addresses: see Lookup."""
        asked = self._asked.get(host)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _resolve, host)
            self._asked[host] = asked
            asked.add_done_callback(lambda done: self._answered(host, done))
        return await asyncio.shield(asked)

    def close(self) -> None:
        """Leave what still hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answered(self, host: str, asked: "asyncio.Future[list[Address]]") -> None:
        del self._asked[host]
        if not asked.cancelled():
            asked.exception()  # whoever asked may have gone away meanwhile


def _resolve(host: str) -> list[Address]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # An address with a zone is link-local: it stays one without.
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return list(dict.fromkeys(addresses))


def _read(url: str) -> Destination:
    if len(url) > MAX_URL:
        raise ForbiddenDestination(f"At most {MAX_URL} characters are taken.")
    if "#" in url:
        raise ForbiddenDestination("A fragment is never sent; leave it out.")
    found = URL.fullmatch(url)
    if found is None:
        raise ForbiddenDestination("An absolute URL is expected, with http:// or https://.")
    scheme = found["scheme"].lower()
    if "@" in found["authority"]:
        raise ForbiddenDestination("User information may not stand in it; the signature tells who calls.")
    authority = AUTHORITY.fullmatch(found["authority"])
    if authority is None:
        raise ForbiddenDestination("Its host or port cannot be read.")
    port = int(authority["port"]) if authority["port"] else DEFAULT_PORTS[scheme]
    if port > 0xFFFF:
        raise ForbiddenDestination("Its port cannot be read.")
    target = (found["path"] or "/") + (f"?{found['query']}" if found["query"] is not None else "")
    if not TARGET.fullmatch(target):
        raise ForbiddenDestination("Its path or query holds characters that must be percent-encoded.")
    return Destination(scheme, _host(authority["host"]), port, target)


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError as error:
            raise ForbiddenDestination("Its host is no address.") from error
    host = text.lower()
    if not host.isascii():
        try:
            host = idna.encode(text, uts46=True).decode()
        except (idna.IDNAError, UnicodeError) as error:
            raise ForbiddenDestination("Its host is no name that IDNA knows.") from error
        if NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise ForbiddenDestination("Its host is an address in disguise.")
    host = host.removesuffix(".")
    labels = host.split(".")
    if NUMBER.fullmatch(labels[-1]):
        if _address(host) is None:  # octal, hexadecimal, a single number, parts left out
            raise ForbiddenDestination("An IPv4 address is written as four decimal numbers.")
        return host
    if len(host) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise ForbiddenDestination("Its host is no name.")
    return host


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
