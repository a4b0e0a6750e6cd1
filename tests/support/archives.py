"""An archive of a test's own, on SQLite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.archive.archive import Archive, open_archive
from app.archive.upgrading import upgrade


@asynccontextmanager
async def new_archive(directory: Path) -> AsyncIterator[Archive]:
    """An empty archive in this directory."""
    url = f"sqlite:///{directory}/archive.db"
    await upgrade(url)
    async with open_archive(url) as archive:
        yield archive
