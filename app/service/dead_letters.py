"""Dead letters: run again what was given up, once its cause is mended."""

from uuid import UUID

from app.archive.archive import Archive, EndedTask
from app.broker.dead_letters import DeadLetter
from app.domain.errors import Conflict, Gone
from app.domain.lifecycle import TaskStatus
from app.observability.logging import get_log
from app.service.control import Control

log = get_log("administration")


class DeadLetterDesk:
    """Decides about dead letters, for operators."""

    def __init__(self, *, archive: Archive, control: Control) -> None:
        self._archive = archive
        self._control = control

    async def redrive(self, letter: DeadLetter) -> UUID | None:
        """Run the task of a dead letter again, from its last checkpoint, and remove the letter.

        Returns:
            The task that runs again; None if it needs no more: it was deleted, or has been retried since.

        Raises:
            BrokerUnavailable, QueueFull, StoreUnavailable, ArchiveUnavailable, OutcomeUnknown: The letter stays.
            Undecryptable: The same: its order does not open under the configured keys.
        """
        runs_again = None
        if letter.task_id is not None:
            ended = await self._archive.find(letter.task_id)
            if isinstance(ended, EndedTask) and ended.task.status is TaskStatus.FAILED:
                try:
                    await self._control.run_again(ended, request_id=None)
                    runs_again = letter.task_id
                except (Conflict, Gone) as error:
                    log.info("needs no redrive", task_id=letter.task_id, reason=error.detail)
        await letter.remove()
        return runs_again
