"""ResultStore: result files on any object store that obstore knows: a directory, or S3.

A file is written once, to a key that holds the task's id and the attempt's fencing token, and is moved nowhere: a late
worker writes beside the winner's file, never over it, and no caller's text ever becomes part of a path.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import LocalStore, ObjectStore, from_url

from app.domain.errors import Gone, StoreUnavailable
from app.domain.task import ResultFile

if TYPE_CHECKING:
    from obstore import GetResult  # a type only: obstore has it in its stubs

CHUNK_BYTES: Final = 256 * 1024


class ResultStore:
    """Result files, addressed by task and token."""

    def __init__(self, url: str) -> None:
        """Take the place.

        Args:
            url: `file:///directory` (made if missing) or `s3://bucket/prefix` (credentials as AWS tools find them).
        """
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
        key = f"{task_id}/{token}"
        try:
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
            StoreUnavailable: It cannot be read.
        """
        if start == end:
            return _chunks(None)
        try:
            found = await obstore.get_async(self._store, file.key, options={"range": (start, end)})
        except FileNotFoundError as error:
            raise Gone("The result has been removed.") from error
        except (ObjectStoreError, OSError) as error:
            raise StoreUnavailable("The result file cannot be read at the moment.") from error
        return _chunks(found)


async def _chunks(found: "GetResult | None") -> AsyncIterator[bytes]:
    if found is not None:  # no store reads an empty range
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
