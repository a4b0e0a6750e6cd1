"""Fetch a result file, over as many connections as it takes, and trust nothing but its digest.

The ETag of a result is its sha256, and so is known from the status document before the first byte: a `.part` file that
carries the digest in its name can be resumed by If-Range at any time, by another process too.
"""

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import Callable
from io import BufferedRandom
from pathlib import Path

import httpx

from app.client.errors import ClientError, ResultCorrupt, ServiceProblem, UnexpectedAnswer, Unreachable
from app.client.retrying import Backoff, may_repeat
from app.client.transport import Transport
from app.domain.task import ResultDescription, StatusDocument

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are there and the size."""

BLOCK_BYTES = 1 << 20  # what is written at once: a thread's hop costs some 50 µs, too much for every 64 KiB
FRUITLESS_TRIES = 6  # in a row, each without a single new byte: some 20 s
LONGEST_PAUSE_SECONDS = 60  # a Retry-After beyond it is the caller's to wait for


async def download_result(
    transport: Transport, document: StatusDocument, target: Path, *, on_bytes: OnBytes | None = None
) -> ResultDescription:
    """Fetch the result of the task that `document` shows. See `LonghaulClient.download`."""
    # Our own base URL, never `result_url`: that one names the service as others reach it, and the token stays here.
    path = f"v1/workload/{document.task_id}/result"
    result = document.result
    if result is None:
        async with transport.stream(path, headers={}):  # the service has the better words for why there is none
            raise UnexpectedAnswer(f"{path}: a result that the status document does not know")
    if not re.fullmatch("[0-9a-f]{64}", result.sha256):
        raise UnexpectedAnswer("the status document's sha256 is none")  # and would be a part of a file name
    part = target.with_name(f"{target.name}.{result.sha256[:12]}.part")
    resumed = part.exists()
    try:
        await _fetch(transport, path, part, result, on_bytes)
    except ResultCorrupt:
        part.unlink(missing_ok=True)
        if not resumed:
            raise
        # What lay there from an earlier run may have been damaged: once more, from the first byte.
        try:
            await _fetch(transport, path, part, result, on_bytes)
        except ResultCorrupt:
            part.unlink(missing_ok=True)
            raise
    part.replace(target)
    return result


async def _fetch(
    transport: Transport, path: str, part: Path, result: ResultDescription, on_bytes: OnBytes | None
) -> None:
    """Complete the part file and verify it as it lies on the disk.

    Raises:
        ResultCorrupt: Its digest or size is another one.
        ServiceProblem, Unreachable, UnexpectedAnswer: It could not be completed; what came is kept.
    """
    backoff = Backoff()
    with await asyncio.to_thread(_open, part) as file:
        there = file.seek(0, os.SEEK_END)
        if there > result.size:
            there = _emptied(file)
        is_complete = there == result.size and there > 0
        while not is_complete:
            try:
                await _receive(transport, path, file, result, on_bytes)
                is_complete = file.tell() == result.size
                failure: ClientError = Unreachable("the connection ended early", outcome_is_unknown=False)
            except (ServiceProblem, Unreachable) as error:
                if not may_repeat(error, is_idempotent=True):
                    raise
                failure = error
            if not is_complete:
                await transport.pause(failure, _delay(file.tell() - there, failure, backoff))
                there = file.tell()
        await asyncio.to_thread(_verify, file, result)


def _delay(gained: int, failure: ClientError, backoff: Backoff) -> float:
    """Return the seconds until the next connection; raise `failure` after too many in a row that brought nothing."""
    if gained > 0:
        backoff.reset()
    retry_after = (failure.retry_after if isinstance(failure, ServiceProblem) else None) or 0
    if backoff.tries >= FRUITLESS_TRIES or retry_after > LONGEST_PAUSE_SECONDS:
        raise failure
    return retry_after + backoff.next_delay()


async def _receive(
    transport: Transport, path: str, file: BufferedRandom, result: ResultDescription, on_bytes: OnBytes | None
) -> None:
    """Append what one connection brings to `file`, which stands at its end."""
    offset = file.seek(0, os.SEEK_END)
    # Byte ranges of a compressed representation would be another file's: ask for the bytes themselves.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": f'"{result.sha256}"'}
    async with transport.stream(path, headers=headers) as response:
        _check(response, result, offset)
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            offset = _emptied(file)
        block = bytearray()
        try:
            async for chunk in response.aiter_raw():
                offset += len(chunk)
                if offset > result.size:
                    raise ResultCorrupt(f"more than the promised {result.size} bytes came")
                block += chunk
                if len(block) >= BLOCK_BYTES:
                    # Another block before the await: when that is cancelled, the thread still writes this one.
                    full, block = block, bytearray()
                    await asyncio.to_thread(_write, file, full)
                    if on_bytes:
                        on_bytes(offset, result.size)
        finally:
            # Also when the connection broke: on a bad line each of them may bring less than a block.
            _write(file, block)
        if on_bytes:
            on_bytes(offset, result.size)


def _check(response: httpx.Response, result: ResultDescription, offset: int) -> None:
    """Refuse an answer that cannot be (the rest of) the promised file, before a byte of it is written."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise UnexpectedAnswer("the result came compressed, which was not asked for")
    digest = sha256_in(response.headers.get("Repr-Digest", ""))
    if digest is not None and digest != result.sha256:
        raise ResultCorrupt("the service offers another file than the status document promises")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        expected = f"bytes {offset}-{result.size - 1}/{result.size}"
        if response.headers.get("Content-Range") != expected:
            raise UnexpectedAnswer(f"another range than the one that was asked for: {expected}")


def filename_of(document: StatusDocument) -> str:
    """Return a name for the task's result that leads to no other directory, is not hidden, and is never empty.

    RFC 6266, section 4.3: the name is the sender's, and not to be trusted.
    """
    offered = document.result.filename.replace("\\", "/") if document.result else ""
    name = "".join(character for character in Path(offered).name if character.isprintable())
    return name.lstrip(".") or f"{document.task_id}.result"


def sha256_in(repr_digest: str) -> str | None:
    """Return the sha-256 of a Repr-Digest header (RFC 9530, an RFC 8941 dictionary) in hexadecimal, or None."""
    found = re.search(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):", repr_digest)
    return base64.b64decode(found[1]).hex() if found else None


def _open(part: Path) -> BufferedRandom:
    """Open for reading and writing, made if it is not there, and never emptied."""
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def _emptied(file: BufferedRandom) -> int:
    file.truncate(0)
    return file.seek(0)


def _write(file: BufferedRandom, block: bytearray) -> None:
    file.write(block)
    file.flush()  # so that a killed process leaves all that it has told of


def _verify(file: BufferedRandom, result: ResultDescription) -> None:
    # Read back what lies on the disk, instead of summing up what went by: the file is what the caller will use.
    os.fsync(file.fileno())
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != result.sha256:
        raise ResultCorrupt(f"the file's sha256 is {digest}, not {result.sha256}")
