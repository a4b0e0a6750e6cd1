"""The purge, once a minute."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy import update

from app.archive.archive import Doubted, Refused
from app.archive.tables import refused
from app.results.store import ResultStore
from tests.support.archives import new_archive
from workers.housekeeping.purge import DOUBTED_FOR, Purge


async def test_a_doubt_whose_request_has_died_is_lifted(tmp_path: Path) -> None:
    """Older than any request takes; a young one stays, and so does what was refused."""
    task_id = uuid4()
    old = DOUBTED_FOR // timedelta(milliseconds=1)
    async with new_archive(tmp_path) as archive:
        for message in ("doubted", "refused"):
            await archive.doubt(task_id, message)
        await archive.refuse(task_id, "refused")
        await archive._database.write(
            lambda connection: connection.execute(update(refused).values(refused_at=refused.c.refused_at - old))
        )
        await archive.doubt(task_id, "young")
        await Purge(archive, ResultStore(f"file://{tmp_path}/results"), retention=timedelta(days=90)).perform()
        known = [await archive.against(task_id, 1, message) for message in ("doubted", "refused", "young")]
    assert known == [None, Refused(), Doubted()]
