"""Deliveries: wakes webhooks that are due and late: their wake-up was lost, or could not be sent.

While many wake-ups wait in the queue, the senders are slow or away, and more of them would help nobody.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from app.archive.deliveries import Deliveries
from app.broker.connection import BrokerConnection
from app.broker.publisher import Publisher, WakeUp
from app.broker.topology import WEBHOOK_QUEUE, ready_counts
from app.observability.logging import get_log

PORTION: Final = 500

log = get_log("housekeeping")


class LateWebhooks:
    """Wakes those that nobody else will."""

    def __init__(
        self, deliveries: Deliveries, publisher: Publisher, connection: BrokerConnection, *, late_after: timedelta
    ) -> None:
        self._deliveries = deliveries
        self._publisher = publisher
        self._connection = connection
        self._late_after = late_after
        self._woken: dict[str, float] = {}

    async def perform(self) -> None:
        """Wake a portion of them, each once in the time after which one is late."""
        late = await self._deliveries.late(datetime.now(UTC) - self._late_after, limit=PORTION)
        connection = self._connection.current
        if not late or connection is None:
            return
        if (await ready_counts(connection, [WEBHOOK_QUEUE])).get(WEBHOOK_QUEUE, PORTION) >= PORTION:
            return
        now, patience = time.monotonic(), self._late_after.total_seconds()
        self._woken = {webhook_id: at for webhook_id, at in self._woken.items() if now - at < patience}
        for webhook_id, attempt in late:
            if webhook_id not in self._woken:
                await self._publisher.wake(WakeUp(webhook_id, attempt))
                self._woken[webhook_id] = now
                log.warning("woke a webhook that was late", webhook_id=webhook_id, attempt=attempt)
