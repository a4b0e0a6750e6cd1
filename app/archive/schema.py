"""Which schema this version knows. The services check it when they start, and never change it.

If they did, a dozen of them starting at once would, the oldest version among them too. `upgrading.py` does it, for
`longhaul admin declare`; it stands apart, so that no service loads Alembic: 0.3 s of a start, and its memory.
"""

from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from app.archive.engine import Database
from app.domain.errors import ConfigurationError

REVISION: Final = "0004"
"""The newest migration. A test holds it."""

VERSION_TABLE: Final = "archive_version"
"""Alembic's own name for it is anybody's, in a database that is shared."""

DECLARE: Final = "run `longhaul admin declare`"


async def require_current(database: Database) -> None:
    """Check that the schema is the one that this version knows.

    Raises:
        ConfigurationError: It is not, or there is none: `longhaul admin declare` must run first.
        ArchiveUnavailable: The database does not answer.
    """
    if database.file and not database.file.exists():
        raise ConfigurationError(f"archive_url: there is no {database.file}: {DECLARE}")
    found = await database.read(_revision)
    if found != REVISION:
        raise ConfigurationError(f"the archive's schema is {found or 'missing'} and not {REVISION}: {DECLARE}")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return found
