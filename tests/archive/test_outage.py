"""The database is away: said quickly, and over without a restart as soon as it is back."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from app.archive.archive import Archive, open_archive
from app.archive.engine import open_database
from app.archive.upgrading import upgrade
from app.domain.errors import ArchiveUnavailable, ConfigurationError
from stack.ports import free_port
from tests.archive.builders import CREATED, OWNER, ended_task
from tests.support.postgres import PostgresServer

QUICK = timedelta(seconds=1)


class Outage:
    """A database that a test takes away and brings back."""

    def __init__(self, url: str, file: Path | None, server: PostgresServer | None) -> None:
        self.url = url
        self._server = server
        self._directory = file and file.parent
        self._elsewhere = file and file.parent.with_name("elsewhere")

    def begin(self) -> None:
        if self._server:
            self._server.stop()
        elif self._directory and self._elsewhere:
            self._directory.rename(self._elsewhere)

    def end(self) -> None:
        if self._server:
            self._server.start()
        elif self._directory and self._elsewhere and self._elsewhere.exists():
            self._elsewhere.rename(self._directory)


@pytest.fixture
async def outage(url: str, kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Outage]:
    if kind == "sqlite":
        outage = Outage(url, Path(url.removeprefix("sqlite:///")), None)
    else:
        outage = Outage(url, None, request.getfixturevalue("postgres_server"))
    yield outage
    outage.end()


async def test_everything_is_unavailable_at_once_and_answered_again_afterwards(
    archive: Archive, outage: Outage
) -> None:
    before, during = ended_task(), ended_task()
    assert await archive.insert(before) == before
    assert await archive.answers()
    outage.begin()
    attempts = (
        archive.insert(during),
        archive.find(before.task.id),
        archive.against(before.task.id, 1, "m"),
        archive.doubt(before.task.id, "m"),
        archive.refuse(before.task.id, "m"),
        archive.lift_doubt(before.task.id, "m"),
        archive.forget(before.task.id, OWNER),
        archive.page(OWNER, limit=1),
        archive.purge(ended_before=CREATED, refused_before=CREATED, doubted_before=CREATED, limit=1),
        archive.expired_results(CREATED, limit=1),
    )
    began = time.monotonic()
    for attempt in attempts:
        with pytest.raises(ArchiveUnavailable) as raised:
            await attempt
        assert raised.value.__cause__ is not None
        assert raised.value.slug == "store-unavailable"
    assert not await archive.answers()
    assert time.monotonic() - began < 10 * QUICK.total_seconds()
    outage.end()
    assert await archive.answers()
    assert await archive.insert(during) == during
    assert await archive.find(before.task.id) == before


async def test_a_crowd_fails_as_one_while_the_database_is_away(archive: Archive, outage: Outage) -> None:
    tasks = [ended_task() for _ in range(30)]
    outage.begin()
    failures = await asyncio.gather(*map(archive.insert, tasks), return_exceptions=True)
    assert {type(failure) for failure in failures} == {ArchiveUnavailable}
    outage.end()
    assert await asyncio.gather(*map(archive.insert, tasks)) == tasks


async def test_connections_that_died_unnoticed_cost_nobody_an_answer(archive: Archive, outage: Outage) -> None:
    """A restart between two questions: the pool's connections are dead, the database is well."""
    tasks = [ended_task() for _ in range(10)]
    await asyncio.gather(*map(archive.insert, tasks), *[archive.find(task.task.id) for task in tasks])
    outage.begin()
    outage.end()
    assert await archive.find(tasks[0].task.id) == tasks[0]
    assert await archive.insert(tasks[1]) == tasks[1]


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_no_row_goes_into_a_file_that_was_deleted(archive: Archive, url: str) -> None:
    """SQLite itself would go on writing into it; nor is an empty archive made in its place."""
    file = Path(url.removeprefix("sqlite:///"))
    assert await archive.insert(ended_task())
    for part in file.parent.iterdir():
        part.unlink()
    with pytest.raises(ArchiveUnavailable):
        await archive.insert(ended_task())
    assert list(file.parent.iterdir()) == []
    await upgrade(url)
    again = ended_task()
    assert await archive.insert(again) == again


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_a_writer_that_never_ends_is_not_waited_for_longer_than_the_timeout(url: str) -> None:
    done = ended_task()
    async with open_archive(url, timeout=timedelta(seconds=0.5)) as archive:
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ArchiveUnavailable):
            await archive.insert(done)
        assert await archive.find(done.task.id) is None
        other.rollback()
        other.close()
        assert await archive.insert(done) == done


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
async def test_a_lock_that_is_never_released_is_not_waited_for_longer_than_the_timeout(url: str) -> None:
    done = ended_task()
    async with (
        open_archive(url, timeout=timedelta(seconds=0.5)) as archive,
        open_database(url) as other,
        cast("Any", other)._engine.begin() as connection,
    ):
        await connection.exec_driver_sql("LOCK TABLE ended")
        with pytest.raises(ArchiveUnavailable):
            await archive.insert(done)
        await connection.rollback()
        assert await archive.insert(done) == done


async def test_a_server_that_says_nothing_is_given_up() -> None:
    """It takes the connection, and no more."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", free_port()) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_database(
            f"postgresql://me:secret@127.0.0.1:{port}/x", timeout=timedelta(seconds=0.3)
        ) as database:
            with pytest.raises(ArchiveUnavailable) as raised:
                await database.read(lambda _connection: None)
            assert "secret" not in repr(raised.value)


@pytest.mark.parametrize(
    "wrong", ["", "nonsense", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=memory"]
)
async def test_a_url_that_cannot_be_an_archive_stops_the_start(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="archive_url"):
        async with open_archive(wrong):
            pass
