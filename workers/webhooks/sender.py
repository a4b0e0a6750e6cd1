"""Sender: one webhook, from its wake-up to its next. The row is the truth; the message in hand is only a wake-up.

take (the row, for one attempt) → enter (the receiver has room) → settle (nobody is told of an end that Redis does not
show) → post → record → wake-up for the next attempt → acknowledge. A sender that is killed at any arrow leaves the row
due: the broker delivers the wake-up again, or housekeeping makes a new one. So a webhook may arrive twice, under one
id, and is never lost.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from random import Random
from typing import Final, TypeVar
from uuid import uuid4

from app import __version__
from app.archive.archive import Archive, EndedTask
from app.archive.deliveries import Attempted, NotYet, Taken
from app.broker.delivery import Delivery
from app.broker.publisher import Publisher, WakeUp
from app.domain.backoff import scheduled_delay
from app.domain.errors import ForbiddenDestination, Malformed, PublishUnconfirmed, QueueFull, Unavailable, Undecryptable
from app.domain.webhook import WebhookState
from app.observability.logging import bind, get_log
from app.observability.tracing import child_of
from app.service.announcing import Announcements
from app.service.signing import SigningSecrets
from app.store.tasks import TaskStore
from app.webhooks.destination import Destinations
from app.webhooks.message import Letter
from app.webhooks.signature import signed_headers
from workers.webhooks.breaker import PATIENCE, Receivers
from workers.webhooks.posting import Answer, Poster, Unanswered

RETRY_SECONDS: Final = 1.0
MARGIN: Final = timedelta(seconds=10)
"""How much longer than its longest attempt a sender has a webhook for itself."""
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)
OBEYED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
HORIZON_MARGIN: Final = timedelta(hours=1)

Found = TypeVar("Found")

log = get_log("webhooks")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went."""

    name: str
    """`delivered`, `gone`, `refused` (another status), `unanswered`, `forbidden`, or `undecryptable`."""
    status_code: int | None = None
    location: str | None = None
    error: str | None = None
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, answer: Answer) -> "Outcome":
        """Judge an answer: only 2xx is done, and 410 stops."""
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            name = "delivered"
        else:
            name = "gone" if answer.status == HTTPStatus.GONE else "refused"
        retry_after = answer.retry_after if answer.status in OBEYED else None
        return cls(name, answer.status, answer.location, None, retry_after)


class Sender:
    """Sends webhooks, one for each wake-up."""

    def __init__(
        self,
        *,
        archive: Archive,
        tasks: TaskStore,
        publisher: Publisher,
        announcements: Announcements,
        secrets: SigningSecrets,
        destinations: Destinations,
        poster: Poster,
        receivers: Receivers,
        schedule: Sequence[timedelta],
        timeout: timedelta,
        random: Random,
    ) -> None:
        self._archive = archive
        self._deliveries = archive.deliveries
        self._tasks = tasks
        self._publisher = publisher
        self._announcements = announcements
        self._secrets = secrets
        self._destinations = destinations
        self._poster = poster
        self._receivers = receivers
        self._schedule = schedule
        self._hold = timeout + PATIENCE + MARGIN
        self._horizon = sum(schedule, timedelta(0)) * 1.1 + HORIZON_MARGIN
        self._random = random

    async def deliver(self, delivery: Delivery) -> None:
        """Do what a wake-up is for, and acknowledge it."""
        if delivery.is_lost:
            return  # it comes again
        try:
            wake_up = delivery.wake_up()
        except Malformed as error:
            log.warning("a message cannot be read", reason=error.detail)
            delivery.acknowledge()
            return
        bind(webhook_id=wake_up.webhook_id)
        again = await self._send(wake_up, delivery)
        if again is not None:
            await _until_answered(lambda: self._publisher.wake(again), delivery)
        delivery.acknowledge()

    async def _send(self, wake_up: WakeUp, delivery: Delivery) -> WakeUp | None:
        """Send, if it is time; return the next wake-up."""
        if wake_up.not_before and wake_up.not_before > datetime.now(UTC):
            return wake_up  # no delay queue is as long as the wait: on to the next one, and nobody else is asked
        asked = 0

        async def take() -> Taken | NotYet | None:
            nonlocal asked
            asked += 1
            held_until = datetime.now(UTC) + self._hold
            return await self._deliveries.take(wake_up.webhook_id, attempt=wake_up.attempt, held_until=held_until)

        taken = await _until_answered(take, delivery)
        match taken:
            case None:
                return None
            case NotYet(until):
                # Somebody has put it off since, and wakes it then; unless that was we, and were killed or not answered.
                is_ours = delivery.is_repeated or asked > 1
                if wake_up.not_before and until > wake_up.not_before and not is_ours:
                    return None
                return replace(wake_up, not_before=until)
        if taken.webhook.task_id:
            bind(task_id=str(taken.webhook.task_id))
        began, clock = datetime.now(UTC), time.monotonic()
        outcome = await self._outcome(taken, wake_up, delivery)
        if isinstance(outcome, timedelta):
            until = datetime.now(UTC) + outcome
            await _until_answered(
                lambda: self._deliveries.postpone(taken.webhook.id, attempt=taken.attempt, until=until), delivery
            )
            return replace(wake_up, not_before=until)
        state, retry_after = self._verdict(taken, outcome)
        next_attempt_at = None if retry_after is None else datetime.now(UTC) + retry_after
        attempted = Attempted(
            id=str(uuid4()),
            webhook_id=taken.webhook.id,
            attempt=taken.attempt,
            attempted_at=began,
            duration_ms=round((time.monotonic() - clock) * 1000),
            outcome=outcome.name,
            state=state,
            status_code=outcome.status_code,
            location=outcome.location,
            error=outcome.error,
            next_attempt_at=next_attempt_at,
        )
        await _until_answered(lambda: self._deliveries.record(attempted), delivery)
        log.info(
            "webhook",
            type=taken.webhook.type,
            attempt=taken.attempt,
            outcome=outcome.name,
            status=outcome.status_code,
            error=outcome.error,
            ms=attempted.duration_ms,
        )
        if next_attempt_at is None:
            return None
        return WakeUp(taken.webhook.id, taken.attempt + 1, not_before=next_attempt_at)

    async def _outcome(self, taken: Taken, wake_up: WakeUp, delivery: Delivery) -> Outcome | timedelta:
        """Make the attempt; or say after how long to come again, since the receiver has no room for it now."""
        try:
            letter = self._announcements.opened(taken.webhook)
            origin = self._destinations.read(letter.url).origin
        except Undecryptable as error:
            return Outcome("undecryptable", error=error.detail)
        except ForbiddenDestination as error:
            return Outcome("forbidden", error=error.detail)
        bind(request_id=letter.request_id)
        receiver = self._receivers[origin]
        if (wait := await receiver.enter()) is not None:
            if receiver.is_left_alone and datetime.now(UTC) - taken.created_at > self._horizon:
                return Outcome("unanswered", error="the receiver has not answered for long, and is left alone")
            return wait
        answered: bool | None = None
        try:
            # Only now: who was sent away has cost one look at its row.
            if taken.attempt == 1 and not wake_up.is_shown:
                await _until_answered(lambda: self._settle(taken), delivery)
            secrets = await _until_answered(lambda: self._secrets.of(taken.webhook.owner_id), delivery)
            answer = await self._post(taken, letter, [secret.text for secret in secrets])
            answered = True
            return Outcome.of(answer)
        except Undecryptable as error:
            return Outcome("undecryptable", error=error.detail)
        except ForbiddenDestination as error:
            return Outcome("forbidden", error=error.detail)
        except Unanswered as error:
            answered = False
            return Outcome("unanswered", error=error.detail)
        finally:
            receiver.leave(answered=answered)

    async def _settle(self, taken: Taken) -> None:
        """Show the end in Redis, should whoever wrote its row have died before."""
        task_id = taken.webhook.task_id
        ended = await self._archive.find(task_id) if task_id else None
        if isinstance(ended, EndedTask):
            await self._tasks.settle(ended.task)

    async def _post(self, taken: Taken, letter: Letter, secrets: list[str]) -> Answer:
        body = letter.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Longhaul/{__version__} (webhooks)",
            "X-Request-ID": letter.request_id or uuid4().hex,
            "traceparent": child_of(letter.traceparent),
            **signed_headers(body, webhook_id=taken.webhook.id, timestamp=int(time.time()), secrets=secrets),
        }
        return await self._poster.post(letter.url, headers, body)

    def _verdict(self, taken: Taken, outcome: Outcome) -> tuple[WebhookState, timedelta | None]:
        """Decide what becomes of the webhook, and after how long it is tried again."""
        match outcome.name:
            case "delivered":
                return WebhookState.DELIVERED, None
            case "gone":
                return WebhookState.STOPPED, None
            case "undecryptable":
                return WebhookState.FAILED, None
        wait = scheduled_delay(taken.attempt, schedule=self._schedule, random=self._random)
        if wait is None:
            return WebhookState.FAILED, None
        return WebhookState.DUE, max(wait, min(outcome.retry_after or timedelta(0), LONGEST_RETRY_AFTER))


async def _until_answered(ask: Callable[[], Awaitable[Found]], delivery: Delivery) -> Found:
    """Ask until the server answers, as long as the wake-up is ours."""
    while True:
        try:
            return await ask()
        except (Unavailable, PublishUnconfirmed, QueueFull):
            if delivery.is_lost:
                raise
            await asyncio.sleep(RETRY_SECONDS)
