"""An archive for each test, on each of the two databases."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete

from app.archive.archive import Archive, open_archive
from app.archive.engine import open_database
from app.archive.tables import metadata
from app.archive.upgrading import upgrade
from tests.support.postgres import PostgresServer

_names = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that the archive's tests share; whoever stops it starts it again."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database it is."""
    return str(request.param)


@pytest.fixture
def new_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database without a schema; SQLite's file and its directory are not there yet."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/archive/archive.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"new{next(_names)}"
    server.create_database(name)
    return server.url_of(name)


@pytest.fixture
def url_before_upgrade(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """As `new_url`, but PostgreSQL's database is one that tests share: making one takes longer than most tests."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/archive/archive.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url


@pytest.fixture
async def url(url_before_upgrade: str) -> str:
    """The URL of an empty archive."""
    await upgrade(url_before_upgrade)
    async with open_database(url_before_upgrade) as database:
        await database.write(_empty)
    return url_before_upgrade


@pytest.fixture
async def archive(url: str) -> AsyncIterator[Archive]:
    """An empty archive."""
    async with open_archive(url) as opened:
        yield opened


@pytest.fixture
def sql(archive: Archive) -> Callable[[Callable[[Connection], object]], object]:
    """Runs a statement behind the archive's back."""
    return archive._database.write


def _empty(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        connection.execute(delete(table))
