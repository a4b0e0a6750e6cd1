"""Delivery: one message in hand. It ends acknowledged, parked (a copy takes its place), buried, or given back."""

from uuid import UUID

from aiormq.abc import DeliveredMessage

from app.broker.acknowledging import Acknowledger
from app.broker.publisher import Letter, Publisher, WakeUp
from app.domain.errors import Malformed
from app.domain.moments import moment


class Delivery:
    """A message from a work queue, not acknowledged yet."""

    def __init__(
        self, message: DeliveredMessage, queue: str, *, acknowledger: Acknowledger, publisher: Publisher
    ) -> None:
        self._body = message.body
        self._properties = message.header.properties
        self._headers = self._properties.headers or {}
        self._tag = message.delivery_tag or 0
        self._is_repeated = bool(message.redelivered)
        self._queue = queue
        self._acknowledger = acknowledger
        self._publisher = publisher
        self._is_open = True
        """Neither acknowledged nor given back: the broker closes a channel that says either twice."""

    @property
    def is_lost(self) -> bool:
        """Whether its channel is gone: the broker will deliver it again, and this one is worth nothing."""
        return self._acknowledger.is_lost

    @property
    def is_repeated(self) -> bool:
        """Whether it was delivered before, to somebody who did not acknowledge it."""
        return self._is_repeated

    @property
    def message_id(self) -> str:
        """Which message of its task it is; empty for what is not one of ours."""
        return self._properties.message_id or ""

    @property
    def request_id(self) -> str | None:
        """The id of the request that submitted the task."""
        value = self._headers.get("request_id")
        return value if isinstance(value, str) else None

    def letter(self) -> Letter:
        """Read it.

        Raises:
            Malformed: It is not one of ours.
        """
        try:
            task_id = UUID(str(self._headers["task_id"]))
        except (KeyError, ValueError) as error:
            raise Malformed("The message does not name its task.") from error
        return Letter(
            task_id=task_id,
            message_id=self.message_id,
            action=self._properties.message_type or "",
            queue=self._queue,
            sealed=self._body,
            request_id=self.request_id,
        )

    def wake_up(self) -> WakeUp:
        """Read it as one from the queue `webhooks`.

        Raises:
            Malformed: It is not one of ours.
        """
        attempt = self._headers.get("attempt")
        if not self.message_id or not isinstance(attempt, int):
            raise Malformed("The message does not name its webhook.")
        due = self._headers.get("not_before")
        return WakeUp(
            self.message_id,
            attempt,
            is_shown=self._headers.get("is_shown") is True,
            not_before=moment(due) if isinstance(due, int) else None,
        )

    def acknowledge(self) -> None:
        """Tell the broker, with this turn's other acknowledgements, that the message may go."""
        if self._is_open:
            self._is_open = False
            self._acknowledger.acknowledge(self._tag)

    async def give_back(self) -> None:
        """Return it to the queue, to be delivered again at once."""
        if self._is_open:
            self._is_open = False
            await self._acknowledger.give_back(self._tag)

    async def bury(self, reason: str) -> None:
        """Move it to the dead letters: the copy is confirmed before this one is acknowledged."""
        try:
            letter = self.letter()
        except Malformed:
            letter = Letter(UUID(int=0), self.message_id, "", self._queue, self._body)
        await self._publisher.bury(letter, reason)
        self.acknowledge()
