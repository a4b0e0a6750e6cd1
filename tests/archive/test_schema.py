"""Migrations: once, however many run them, and nobody starts without them."""

import asyncio
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.archive.archive import Refused, open_archive
from app.archive.engine import open_database
from app.archive.schema import REVISION, VERSION_TABLE
from app.archive.tables import metadata
from app.archive.upgrading import migrations, upgrade
from app.domain.errors import ConfigurationError
from tests.archive.builders import ended_task


def test_the_code_knows_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == REVISION


async def test_the_migrations_make_exactly_the_tables_that_the_code_knows(new_url: str) -> None:
    await upgrade(new_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        return list(compare_metadata(context, metadata))

    async with open_database(new_url) as database:
        assert await database.read(differences) == []


async def test_what_was_refused_before_there_were_doubts_stays_refused(new_url: str) -> None:
    task_id = uuid4()

    def refuse_as_of_old(connection: Connection) -> None:
        config = migrations()
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO refused VALUES (:task, 'm', 1)"), {"task": str(task_id)})

    async with open_database(new_url, create=True) as database:
        await database.write(refuse_as_of_old)
    await upgrade(new_url)
    async with open_archive(new_url) as archive:
        assert await archive.against(task_id, 1, "m") == Refused()


async def test_upgrading_again_changes_nothing(new_url: str) -> None:
    done = ended_task()
    await upgrade(new_url)
    async with open_archive(new_url) as archive:
        await archive.insert(done)
        await upgrade(new_url)
        assert await archive.find(done.task.id) == done


async def test_several_may_upgrade_at_once(new_url: str) -> None:
    await asyncio.gather(*[upgrade(new_url) for _ in range(5)])
    done = ended_task()
    async with open_archive(new_url) as archive:
        assert await archive.insert(done) == done


async def test_nobody_starts_without_the_schema(new_url: str) -> None:
    with pytest.raises(ConfigurationError, match="longhaul admin declare"):
        async with open_archive(new_url):
            pass


async def test_nobody_starts_on_the_schema_of_another_version(new_url: str) -> None:
    await upgrade(new_url)
    async with open_database(new_url) as database:
        await database.write(
            lambda connection: connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9'"))
        )
    with pytest.raises(ConfigurationError, match="9"):
        async with open_archive(new_url):
            pass
    with pytest.raises(ConfigurationError, match="9"):
        await upgrade(new_url)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_a_committed_row_is_on_disk_and_readers_do_not_wait(url: str) -> None:
    async with open_database(url) as database:
        assert await database.read(lambda connection: connection.scalar(text("PRAGMA journal_mode"))) == "wal"
        assert await database.read(lambda connection: connection.scalar(text("PRAGMA synchronous"))) == 2  # FULL


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_a_directory_may_have_any_name(kind: str, tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/a b%20c#d/é%/archive.db"
    await upgrade(url)
    done = ended_task()
    async with open_archive(url) as archive:
        assert await archive.insert(done) == done
