"""Which ports of 127.0.0.1 are free, and who says so when one is not."""

import random
import socket

from stack.errors import StackError

HOST = "127.0.0.1"
# Below Linux's ephemeral range (32768 and up): no outgoing connection can take a port between our look and our use.
LOWEST, HIGHEST = 20_000, 32_700

_handed_out: set[int] = set()


def is_free(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Tell whether a server of 127.0.0.1 takes a connection now."""
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def free_port(count: int = 1) -> int:
    """Return the first of `count` consecutive free ports, none of which this process was given before.

    Another process may take one before it is used: there are some 12,000, and the choice is random.
    """
    for _ in range(1_000):
        first = random.randint(LOWEST, HIGHEST - count)
        ports = range(first, first + count)
        if _handed_out.isdisjoint(ports) and all(map(is_free, ports)):
            _handed_out.update(ports)
            return first
    raise StackError(f"no {count} free ports in a row between {LOWEST} and {HIGHEST}")
