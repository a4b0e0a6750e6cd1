"""The corpus of hostile callback URLs, and a program that sends to all of them in a network of its own.

Run in a fresh network namespace as root of it: every address that a URL of the corpus means is given to the loopback
device, with a listener on every port in question. What is not refused would arrive, and be counted.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from datetime import timedelta
from ipaddress import ip_address

from app.domain.errors import ForbiddenDestination
from app.webhooks.destination import Address, Destinations
from workers.webhooks.posting import Poster, Unanswered

PORTS = (22, 80, 443, 8080)

REACHABLE = (
    "127.0.0.1", "127.0.0.2", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.0.1", "169.254.169.254",
    "169.254.170.2", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "::1", "fd00:ec2::254", "fc00::1", "fec0::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2002:7f00:1::1", "2001:db8::1", "2001:0:7f00:1::1", "3fff::1", "100::1",
)  # fmt: skip
"""Addresses that the loopback device is given. 0.0.0.0 and the IPv4-mapped ones lead to 127.0.0.1 by themselves."""

NAMES: dict[str, list[list[str]]] = {
    "localhost": [["127.0.0.1", "::1"]],
    "localhost.localdomain": [["127.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "internal.example.com": [["10.0.0.1"]],
    "127.0.0.1.nip.io": [["127.0.0.1"]],
    "mapped.example.com": [["::ffff:127.0.0.1"]],
    "nat64.example.com": [["64:ff9b::7f00:1"]],
    "one-of-two.example.com": [["93.184.215.14", "127.0.0.1"]],
    "other-of-two.example.com": [["127.0.0.1", "93.184.215.14"]],
    "rebinding.example.com": [["93.184.215.14"], ["127.0.0.1"]],
    "xn--0-fza.example": [["127.0.0.1"]],
}
"""What a hostile name server answers, one time after the other; the last answer stays."""

HOSTILE = (
    # loopback, in every spelling that some library reads
    "http://127.0.0.1/", "http://127.0.0.1:8080/", "http://127.1/", "http://127.0.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0x7f.0x0.0x0.0x1/", "http://0x7f.1/", "http://0177.0.0.1/", "http://017700000001/",
    "http://127.0.0.01/", "http://00000000177.0.0.1/", "http://127.0.0.1./", "http://0/", "http://0.0.0.0/",
    "http://127.0.0.2/", "http://127.1.2.3/", "http://4294967297.0.0.1/", "http://18446744073709551617/",
    "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/", "http://[::127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:7f00:0001]/", "http://[::ffff:0:7f00:1]/",
    # inside, and the clouds' metadata
    "http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.254/", "http://192.168.0.1/", "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/", "http://[::ffff:a9fe:a9fe]/", "http://2852039166/", "http://0xa9fea9fe/",
    "http://169.254.170.2/v2/credentials", "http://100.100.100.200/latest/", "http://192.0.0.192/opc/v2/",
    "http://[fd00:ec2::254]/", "http://[fc00::1]/", "http://[fec0::1]/", "http://[fe80::1%25lo]/", "http://[100::1]/",
    "http://metadata.google.internal/computeMetadata/v1/", "http://192.0.2.1/", "http://198.18.0.1/",
    "http://198.51.100.1/", "http://203.0.113.1/", "http://192.88.99.1/", "http://224.0.0.1/", "http://255.255.255.255/",
    # one address inside another
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b::a9fe:a9fe]/", "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::1]/",
    "http://[2001:0:7f00:1::1]/", "http://[2001:db8::1]/", "http://[3fff::1]/",
    # names that lead there
    "http://localhost/", "http://LOCALHOST:8080/", "http://localhost./", "http://localhost.localdomain/",
    "http://127.0.0.1.nip.io/", "http://internal.example.com/", "http://mapped.example.com/",
    "http://nat64.example.com/", "http://one-of-two.example.com/", "http://other-of-two.example.com/",
    # user information, and what two parsers read differently
    "http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/", "http://a:b@127.0.0.1:80/",
    "http://example.com:80@127.0.0.1/", "http://127.0.0.1\\@example.com/", "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1#@example.com/", "http://example.com#@127.0.0.1/", "http://127.0.0.1%23@example.com/",
    "http://127.0.0.1%00.example.com/", "http://127.0.0.1\t/", "http://127.0.0.1\n/", "http://127.0.0.1 /",
    " http://127.0.0.1/", "http://127.0.0.1\r\nX: y/", "http:127.0.0.1/", "http:/127.0.0.1/", "http:///127.0.0.1/",
    "//127.0.0.1/", "http://[::1].example.com/", "http://[127.0.0.1]/", "http://[::1/", "http://exa%6dple.com/",
    "http://%31%32%37.0.0.1/", "http://127.0.0.1:80:80/", "http://127.0.0.1:/", "http://127.0.0.1:080/",
    # what IDNA makes of letters
    "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://１２７.０.０.１/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", "http://0x7ｆ.1/",  # noqa: RUF001
    # ports and schemes
    "http://127.0.0.1:22/", "http://example.com:22/", "http://10.0.0.1:0/", "http://127.0.0.1:65616/",
    "ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:80/", "unix:///run/docker.sock", "javascript:x()",
)  # fmt: skip


class HostileLookup:
    """A name server in an attacker's hands."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}

    async def addresses(self, host: str) -> list[Address]:
        answers = NAMES.get(host)
        if answers is None:
            raise OSError("no such name")
        times = self._asked[host] = self._asked.get(host, -1) + 1
        return [ip_address(text) for text in answers[min(times, len(answers) - 1)]]


async def _reach(host: str, port: int) -> None:
    """Connect to one of our own addresses; the kernel may take a moment until a new one has its route."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def send_to_all() -> dict[str, object]:
    """Send to every URL, with the rule of production; say what was connected to, and how each attempt ended."""
    connected: list[str] = []

    def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(str(writer.get_extra_info("sockname")))
        writer.close()

    servers = [await asyncio.start_server(count, host, port) for host in REACHABLE for port in PORTS]
    control = 0
    for host in REACHABLE:  # each of them can be reached, or their silence would prove nothing
        for port in PORTS:
            await _reach(host, port)
            control += 1
    while len(connected) < control:
        await asyncio.sleep(0.01)
    connected.clear()
    lookup = HostileLookup()
    destinations = Destinations(allow=[], ports=PORTS[1:], development=False)
    poster = Poster(destinations, lookup, timeout=timedelta(seconds=5), connect_timeout=timedelta(seconds=5))
    outcomes: dict[str, str] = {}
    for url in HOSTILE:
        outcomes[url] = await _outcome(poster, url)
    # A name that was public when it was submitted, and leads inside when it is called.
    rebinding = destinations.read("http://rebinding.example.com/")
    await destinations.check_name(rebinding, lookup, seconds=5)
    outcomes["http://rebinding.example.com/"] = await _outcome(poster, "http://rebinding.example.com/")
    await asyncio.sleep(0.2)
    for server in servers:
        server.close()
    return {"connected": connected, "outcomes": outcomes, "control": control}


async def _outcome(poster: Poster, url: str) -> str:
    try:
        await poster.post(url, {}, b"{}")
    except ForbiddenDestination:
        return "forbidden"
    except Unanswered as error:
        return f"unanswered: {error.detail}"
    return "answered"


def main() -> None:
    """Make the network, send, and print what happened as JSON."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in REACHABLE:
        with contextlib.suppress(subprocess.CalledProcessError):  # 127.0.0.1 and ::1 are there already
            length = 128 if ":" in address else 32
            subprocess.run(
                ["ip", "address", "add", f"{address}/{length}", "dev", "lo", *(["nodad"] if ":" in address else [])],
                check=True,
                capture_output=True,
            )
    json.dump(asyncio.run(send_to_all()), sys.stdout)


if __name__ == "__main__":
    main()
