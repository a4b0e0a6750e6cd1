"""How the tables come to be: migrations, run at deployment by `longhaul admin declare`, and by nobody else."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from app.archive.engine import open_database
from app.archive.schema import VERSION_TABLE
from app.domain.errors import ConfigurationError

TIMEOUT: Final = timedelta(minutes=10)
LOCK: Final = 0x6C6F6E676861756C
"""For pg_advisory_xact_lock: "longhaul" in ASCII."""


async def upgrade(url: str) -> None:
    """Bring the archive to this version's schema, making SQLite's file when there is none.

    One transaction, and several may run it at once: the first does the work while the others wait.

    Args:
        url: As for `open_archive`.

    Raises:
        ArchiveUnavailable: The database does not answer, or was busy for ten minutes.
        ConfigurationError: It cannot be this URL, or the schema is of a newer version than ours.
    """
    async with open_database(url, timeout=TIMEOUT, create=True) as database:
        await database.write(_upgrade)


def _upgrade(connection: Connection) -> None:
    # Alembic keeps what it works on in globals; under this lock no two runs on one database meet in them, either.
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE is such a lock already
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    config = migrations()
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(f"the archive's schema is not one of this version's: {error}") from error


def migrations() -> Config:
    """Return where Alembic finds them."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
