"""Traces: the W3C `traceparent` that a caller sends goes on with what we send for it.

https://www.w3.org/TR/trace-context/, version 00.
"""

import re
import secrets
from typing import Final

TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(sent: list[str]) -> str | None:
    """Read the header; None if there is none, or several, or it is not one: a broken trace begins anew."""
    return sent[0] if len(sent) == 1 and TRACEPARENT.fullmatch(sent[0]) else None


def child_of(traceparent: str | None) -> str:
    """Return the traceparent of a new span in this trace, or in a new one."""
    _, trace_id, _, flags = (traceparent or f"00-{secrets.token_hex(16)}--01").split("-")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"
