"""Announcing: what is told to a task's receiver, and the wake-up of whoever tells it.

An end's webhook is a part of the end: it is written in the transaction of the row that wins, and with no other. A
start's is written when an attempt begins, once for each run. Sending is somebody else's: the wake-up may be lost, and
housekeeping finds what is due and was not woken.
"""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from app.archive.deliveries import Deliveries
from app.archive.rows import DueWebhook
from app.broker.publisher import Publisher, WakeUp
from app.domain.envelope import Envelope
from app.domain.errors import NotFound, PublishUnconfirmed, QueueFull, Unavailable
from app.domain.lifecycle import TaskStatus
from app.domain.task import StatusDocument, Task
from app.observability.logging import get_log
from app.security.links import ResultLinks
from app.security.sealing import Sealer
from app.webhooks.message import OF_END, Letter, WebhookType, webhook_body, webhook_id

log = get_log("webhooks")


class Announcements:
    """Writes webhooks, and wakes those who send them."""

    def __init__(
        self, *, deliveries: Deliveries, publisher: Publisher, sealer: Sealer, links: ResultLinks, public_url: str
    ) -> None:
        self._deliveries = deliveries
        self._publisher = publisher
        self._sealer = sealer
        self._links = links
        self._public_url = public_url

    def of_end(self, ended: Task, order: Envelope | None) -> DueWebhook | None:
        """Return the webhook of a run's end, to be written with its row; None if nobody wants one."""
        if order is None or order.callback is None or "completed" not in order.callback.events:
            return None
        assert ended.finished_at is not None
        result_url = None
        if ended.status is TaskStatus.COMPLETED and ended.result and ended.expires_at:
            result_url = (
                f"{self._public_url}/v1/workload/{ended.id}/result?{self._links.query(ended.id, ended.expires_at)}"
            )
        return self._webhook(
            OF_END[ended.status], "completed", ended, order, at=ended.finished_at, result_url=result_url
        )

    async def started(self, task: Task, order: Envelope) -> None:
        """Write the webhook of a run's first start, if it is wanted, and wake a sender. May be repeated.

        Raises:
            ArchiveUnavailable: It may or may not have been written.
        """
        if order.callback is None or "started" not in order.callback.events:
            return
        at = task.started_at or datetime.now(UTC)
        webhook = self._webhook(WebhookType.STARTED, "started", task, order, at=at)
        await self._deliveries.announce(webhook)
        await self.wake(webhook.id)

    async def test(self, url: str, *, owner: str, request_id: str, traceparent: str | None) -> str:
        """Write a webhook about no task, and wake a sender; return its id.

        Raises:
            ArchiveUnavailable: It may or may not have been written.
        """
        now, task_id = datetime.now(UTC), uuid4()
        sample = Task(
            id=task_id,
            owner_id=owner,
            action="test",
            queue="test",
            status=TaskStatus.COMPLETED,
            seq=1,
            run=1,
            attempt=1,
            max_attempts=1,
            progress=100,
            message="This is a test delivery; there is no such task.",
            labels=(),
            created_at=now,
            started_at=now,
            finished_at=now,
        )
        document = StatusDocument.of(sample, public_url=self._public_url)
        body = webhook_body(WebhookType.TEST, document, at=now)
        letter = Letter(url=url, body=body, request_id=request_id, traceparent=traceparent)
        webhook = self._sealed(webhook_id(task_id, 1, "test"), owner, None, 1, WebhookType.TEST, letter)
        await self._deliveries.announce(webhook)
        await self.wake(webhook.id)
        return webhook.id

    async def again(self, task_id: UUID, delivery_id: str) -> str:
        """Send the webhook of an earlier attempt again, at once, and by its schedule if that fails; return its id.

        Raises:
            NotFound: No such attempt at one of this task's webhooks.
            ArchiveUnavailable: It may or may not be sent.
        """
        try:
            wanted = UUID(delivery_id)
        except ValueError:
            raise NotFound from None
        due = await self._deliveries.redeliver(task_id, wanted)
        if due is None:
            raise NotFound
        event, attempt = due
        await self.wake(event, attempt=attempt)
        return event

    async def wake(self, due: str, *, attempt: int = 1) -> None:
        """Wake a sender of what Redis shows by now; if that fails, housekeeping will."""
        try:
            await self._publisher.wake(WakeUp(due, attempt, is_shown=True))
        except (Unavailable, QueueFull, PublishUnconfirmed) as error:
            log.warning("a webhook waits for housekeeping: its wake-up could not be sent", reason=error.detail)

    def opened(self, webhook: DueWebhook) -> Letter:
        """Open a webhook's letter.

        Raises:
            Undecryptable: Under none of our keys.
        """
        plain = self._sealer.open(webhook.letter, task_id=UUID(webhook.owner_id), action=webhook.id)
        return Letter.model_validate_json(plain)

    def _webhook(
        self, kind: WebhookType, event: str, task: Task, order: Envelope, *, at: datetime, result_url: str | None = None
    ) -> DueWebhook:
        assert order.callback is not None
        document = StatusDocument.of(task, public_url=self._public_url)
        letter = Letter(
            url=order.callback.url,
            body=webhook_body(kind, document, at=at, result_url=result_url),
            request_id=order.request_id,
            traceparent=order.traceparent,
        )
        return self._sealed(webhook_id(task.id, task.run, event), task.owner_id, task.id, task.run, kind, letter)

    def _sealed(
        self, due: str, owner: str, task_id: UUID | None, run: int, kind: WebhookType, letter: Letter
    ) -> DueWebhook:
        # Bound to its owner and its id: another's letter does not open in its place.
        sealed = self._sealer.seal(letter.model_dump_json().encode(), task_id=UUID(owner), action=due)
        return DueWebhook(due, owner, task_id, run, kind, sealed)
