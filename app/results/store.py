"""ResultStore: result files on any object store that obstore knows: a directory, or S3.

A file is written once, to a key that holds the task's id and the attempt's fencing token, and is moved nowhere: a late
worker writes beside the winner's file, never over it, and no caller's text ever becomes part of a path.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import LocalStore, ObjectStore, from_url

from app.domain.errors import Gone, StoreUnavailable, Undecryptable
from app.domain.task import ResultFile

if TYPE_CHECKING:
    from obstore import GetResult  # a type only: obstore has it in its stubs

CHUNK_BYTES: Final = 256 * 1024
SEALED: Final = ".sealed"
"""Ends the key of a file that is sealed."""


class ResultStore:
    """Result files, addressed by task and token."""

    def __init__(self, url: str, *, sealer: "Sealing | None" = None, seals: bool = False) -> None:
        """Take the place.

        Args:
            url: `file:///directory` (made if missing) or `s3://bucket/prefix` (credentials as AWS tools find them).
            sealer: Opens sealed files.
            seals: Whether new files are sealed. Those that were stored otherwise are read as they are.
        """
        self._sealer = sealer
        self._seals = seals and sealer is not None
        parts = urlsplit(url)
        self._store: ObjectStore = (
            LocalStore(unquote(parts.path), mkdir=True) if parts.scheme == "file" else from_url(url)
        )

    async def put(self, task_id: UUID, token: int, path: Path, *, content_type: str, filename: str) -> ResultFile:
        """Store a complete file; return what names and describes it.

        Raises:
            StoreUnavailable: It could not be stored.
        """
        sha256, size = await asyncio.to_thread(_digest, path)
        key = f"{task_id}/{token}{SEALED if self._seals else ''}"
        try:
            if self._sealer is not None and self._seals:
                with tempfile.NamedTemporaryFile() as sealed:
                    await asyncio.to_thread(self._sealer.seal, path, sealed.file, name=key)
                    sealed.flush()
                    await obstore.put_async(self._store, key, Path(sealed.name))
            else:
                await obstore.put_async(self._store, key, path)
        except (ObjectStoreError, OSError) as error:
            raise StoreUnavailable("The result file could not be stored.") from error
        return ResultFile(key=key, size=size, content_type=content_type, filename=filename, sha256=sha256)

    async def exists(self, file: ResultFile) -> bool:
        """Return whether the file is still there."""
        try:
            await obstore.head_async(self._store, file.key)
        except FileNotFoundError:
            return False
        except (ObjectStoreError, OSError) as error:
            raise StoreUnavailable("The result file cannot be read at the moment.") from error
        return True

    async def remove(self, task_id: UUID) -> None:
        """Remove every file that a task has made, late workers' as well."""
        try:
            found = await obstore.list(self._store, prefix=str(task_id)).collect_async()
            await obstore.delete_async(self._store, [file["path"] for file in found])
        except FileNotFoundError:
            return
        except (ObjectStoreError, OSError) as error:
            raise StoreUnavailable("The result files cannot be removed at the moment.") from error

    async def read(self, file: ResultFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the bytes from `start` up to, not including, `end`, in chunks.

        Raises:
            Gone: The file was removed.
            StoreUnavailable: It cannot be read, or does not open.
        """
        if start == end:
            return _chunks(None)
        try:
            if file.key.endswith(SEALED):
                return await self._opened(file, start, end)
            found = await obstore.get_async(self._store, file.key, options={"range": (start, end)})
        except FileNotFoundError as error:
            raise Gone("The result has been removed.") from error
        except (ObjectStoreError, OSError) as error:
            raise StoreUnavailable("The result file cannot be read at the moment.") from error
        return _chunks(found)

    async def _opened(self, file: ResultFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Open a stretch of a sealed file. Its first bytes are opened before anything is answered."""
        sealer = self._sealer
        if sealer is None:
            raise StoreUnavailable("The result file is sealed, and no key is known here.")
        head = await obstore.get_range_async(self._store, file.key, start=0, end=sealer.head_bytes)
        stretch = sealer.stretch(start, end, file.size)
        found = await obstore.get_async(self._store, file.key, options={"range": stretch})
        try:
            opener = sealer.opener(bytes(head), name=file.key, start=start, end=end, size=file.size)
            chunks = _opened_chunks(found, opener)
            first = await anext(chunks)
        except Undecryptable as error:
            raise StoreUnavailable("The result file does not open.") from error

        async def whole() -> AsyncIterator[bytes]:
            yield first
            async for chunk in chunks:
                yield chunk

        return whole()


class Opening(Protocol):
    """Opens a stretch of a file, as `StretchOpener` does."""

    def feed(self, sealed: bytes) -> bytes: ...
    def close(self) -> None: ...


class Sealing(Protocol):
    """Seals and opens files, as `FileSealer` does."""

    @property
    def head_bytes(self) -> int: ...
    def seal(self, plain: Path, sealed: IO[bytes], *, name: str) -> None: ...
    def stretch(self, start: int, end: int, size: int) -> tuple[int, int]: ...
    def opener(self, head: bytes, *, name: str, start: int, end: int, size: int) -> Opening: ...


async def _opened_chunks(found: "GetResult", opener: Opening) -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
        if opened := opener.feed(bytes(chunk)):
            yield opened
    opener.close()


async def _chunks(found: "GetResult | None") -> AsyncIterator[bytes]:
    if found is not None:  # no store reads an empty range
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
