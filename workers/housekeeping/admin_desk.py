"""Admin desk: a status that an operator has set to PENDING by hand, in Redis, on a task that had ended.

A living task's is noticed by the redriver, from its list. An ended one is on no list: all hashes are walked through, at
a pace that Redis does not feel, and such a task is run again, as a retry would.
"""

from typing import Final
from uuid import UUID

from redis.asyncio import Redis

from app.archive.archive import Archive, EndedTask
from app.domain.errors import Conflict
from app.observability.logging import get_log
from app.service.control import Control
from app.store.hand_set import HandSet
from app.store.tasks import TaskStore

KEYS_IN_A_ROUND: Final = 5000

log = get_log("housekeeping")


class AdminDesk:
    """Looks for ended tasks that read PENDING."""

    def __init__(self, redis: Redis, *, tasks: TaskStore, archive: Archive, control: Control) -> None:
        self._hand_set = HandSet(redis)
        self._tasks = tasks
        self._archive = archive
        self._control = control

    async def perform(self) -> None:
        """Walk on through the hashes."""
        for task_id in await self._hand_set.walk_on(count=KEYS_IN_A_ROUND):
            await self._run_again(task_id)

    async def _run_again(self, task_id: UUID) -> None:
        ended = await self._archive.find(task_id)
        if not isinstance(ended, EndedTask):
            return
        try:
            await self._control.run_again(ended, request_id=None, by_hand=True)
            log.warning("runs again: its status was set to PENDING by hand", task_id=task_id)
        except Conflict as error:
            log.warning("set to PENDING by hand, but cannot run again", task_id=task_id, reason=error.detail)
            await self._tasks.settle(ended.task)
