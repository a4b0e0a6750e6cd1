"""Dead letters: the messages of tasks that were given up, kept with the reason for whoever is on call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from app.broker.topology import DEAD_QUEUE
from app.domain.errors import BrokerUnavailable


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them; what it carries stays sealed."""

    id: str
    """The message's own; of one that has none, the digest of what it carries."""
    task_id: UUID | None
    action: str
    queue: str
    reason: str
    buried_at: datetime | None
    _message: AbstractIncomingMessage

    async def remove(self) -> None:
        """Take it out of the queue, for good."""
        await self._message.ack()


@asynccontextmanager
async def dead_letters(connection: AbstractConnection, *, limit: int) -> AsyncIterator[list[DeadLetter]]:
    """Take the oldest dead letters in hand; those that are not removed go back when the block is left.

    Args:
        connection: With the right to read.
        limit: How many at most.

    Raises:
        BrokerUnavailable: The broker does not answer, or no more.
    """
    try:
        async with await connection.channel(publisher_confirms=False) as channel:
            queue = await channel.get_queue(DEAD_QUEUE, ensure=True)
            found: list[DeadLetter] = []
            while len(found) < limit and (message := await queue.get(fail=False)) is not None:
                found.append(_letter(message))
            yield found
    except (AMQPError, OSError) as error:
        raise BrokerUnavailable("The message broker does not answer at the moment.") from error


def _letter(message: AbstractIncomingMessage) -> DeadLetter:
    headers = {name: str(value) for name, value in message.headers.items()}
    try:
        task_id = UUID(headers.get("task_id", ""))
    except ValueError:
        task_id = None
    return DeadLetter(
        id=message.message_id or sha256(message.body).hexdigest()[:32],
        task_id=task_id,
        action=message.type or "",
        queue=headers.get("queue", ""),
        reason=headers.get("reason", ""),
        buried_at=message.timestamp,
        _message=message,
    )
