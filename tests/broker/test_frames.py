"""Our encoder says what pamqp's decoder, which is not ours, reads."""

from datetime import UTC, datetime

import pytest
from pamqp import commands, header
from pamqp.body import ContentBody
from pamqp.frame import unmarshal

from app.broker.frames import FRAME_OVERHEAD, Message, frames_of

FRAME_MAX = 4096


def read(frames: bytes) -> list[object]:
    """Return the frames as pamqp reads them."""
    found: list[object] = []
    while frames:
        size, channel, frame = unmarshal(frames)
        assert channel == 7
        assert size <= FRAME_MAX
        found.append(frame)
        frames = frames[size:]
    return found


@pytest.mark.parametrize(
    "size",
    [0, 1, FRAME_MAX - FRAME_OVERHEAD, FRAME_MAX - FRAME_OVERHEAD + 1, 3 * FRAME_MAX],
)
def test_everything_arrives_as_it_was_said(size: int) -> None:
    message = Message(
        bytes(number % 251 for number in range(size)),
        message_id="m-1",
        headers={"text": "größer", "number": -5, "yes": True, "no": False, "empty": "", "left out": None},
        type="generate_report",
        content_type="application/x",
        timestamp=1_795_953_601,
    )
    publish, content, *pieces = read(
        frames_of(message, exchange="longhaul.work", routing_key="queue", channel=7, frame_max=FRAME_MAX)
    )
    assert isinstance(publish, commands.Basic.Publish)
    assert (publish.exchange, publish.routing_key, publish.mandatory, publish.immediate) == (
        "longhaul.work",
        "queue",
        True,
        False,
    )
    assert isinstance(content, header.ContentHeader)
    told = content.properties
    assert content.body_size == size
    assert (told.message_id, told.message_type, told.content_type) == ("m-1", "generate_report", "application/x")
    assert (told.delivery_mode, told.timestamp) == (2, datetime.fromtimestamp(message.timestamp, UTC))
    assert told.headers == {"text": "größer", "number": -5, "yes": True, "no": False, "empty": ""}
    assert b"".join(piece.value for piece in pieces if isinstance(piece, ContentBody)) == message.body


def test_what_is_not_said_is_not_sent() -> None:
    _, content = read(frames_of(Message(b"", message_id="m"), exchange="", routing_key="q", channel=7, frame_max=0))
    assert isinstance(content, header.ContentHeader)
    assert (content.properties.message_type, content.properties.content_type) == (None, None)
    assert content.properties.headers == {}


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="256"):
        frames_of(Message(b"", message_id="m" * 256), exchange="", routing_key="q", channel=7, frame_max=FRAME_MAX)
