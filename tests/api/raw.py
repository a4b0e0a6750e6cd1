"""HTTP by the byte, for what no client library would send."""

import asyncio
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import urlsplit

import httpx

PATIENCE = 10.0


@dataclass(frozen=True)
class RawAnswer:
    """What came back."""

    status: int
    headers: Message
    body: bytes


async def send(base_url: str, *pieces: bytes, then_close: bool = False) -> RawAnswer:
    """Send bytes over a connection of their own, and read one answer.

    Args:
        base_url: Where to.
        pieces: What to send, one write each.
        then_close: Say after them that nothing more comes.
    """
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(PATIENCE):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if then_close:
                writer.write_eof()
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, rest = head.partition(b"\r\n")
            headers = BytesHeaderParser().parsebytes(rest)
            length = int(headers.get("content-length", "0"))
            return RawAnswer(int(first.split()[1]), headers, await reader.readexactly(length))
    finally:
        writer.close()


def head(client: httpx.AsyncClient, request_line: str, *lines: str) -> bytes:
    """Return a request's head, with the client's Host and token."""
    host = client.base_url.netloc.decode()
    authorization = client.headers.get("authorization")
    known = [f"Host: {host}", *([f"Authorization: {authorization}"] if authorization else [])]
    return "\r\n".join([request_line, *known, *lines, "", ""]).encode("latin-1")


def submission_head(client: httpx.AsyncClient, *lines: str) -> bytes:
    """Return the head of a submission in JSON."""
    return head(client, "POST /v1/workload HTTP/1.1", "Content-Type: application/json", *lines)


def json_of(answer: RawAnswer) -> Any:
    """Return the answer's body as JSON values."""
    return httpx.Response(answer.status, content=answer.body).json()
