"""Pauses: which queues an operator has paused, since when and why. Nothing but these rows knows it.

Workers and housekeeping read them again every few seconds: neither a restart nor an emptied Redis resumes a queue.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from app.archive.endings import insert_new
from app.archive.engine import Database
from app.archive.tables import pauses
from app.domain.moments import milliseconds, moment


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue that nobody works on until it is resumed."""

    since: datetime
    by: str
    """Who paused it, as the audit names them."""
    reason: str


class Pauses:
    """The paused queues. Every method may be repeated, and raises ArchiveUnavailable when no answer comes in time."""

    def __init__(self, database: Database) -> None:
        """Take the archive's database."""
        self._database = database

    async def all(self) -> dict[str, Pause]:
        """Return the paused queues, by name."""

        def body(connection: Connection) -> dict[str, Pause]:
            rows = connection.execute(select(pauses))
            return {row.queue: Pause(moment(row.paused_at), row.paused_by, row.reason) for row in rows}

        return await self._database.read(body)

    async def pause(self, queue: str, pause: Pause) -> None:
        """Pause a queue; one that is paused already stays as it is."""
        row = {"queue": queue, "paused_at": milliseconds(pause.since), "paused_by": pause.by, "reason": pause.reason}
        await self._database.write(lambda connection: connection.execute(insert_new(connection, pauses).values(row)))

    async def resume(self, queue: str) -> None:
        """Resume a queue; one that is not paused stays as it is."""
        await self._database.write(lambda connection: connection.execute(delete(pauses).where(pauses.c.queue == queue)))
