"""Submission: seal, create, publish, confirm. A 202 is a promise; everything before it promises nothing.

The order is the protocol's (docs/protocol.md): the task is created invisible, its message is confirmed by the broker,
and only then is it made visible. What goes wrong on the way leaves either nothing, or a task that runs: never a task
that was refused and runs, never one that was promised and does not.
"""

import json
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

import rfc8785

from app.broker.publisher import Letter, Publisher
from app.domain.action import Action
from app.domain.envelope import Envelope
from app.domain.errors import (
    BrokerUnavailable,
    IdempotencyKeyReused,
    OutcomeUnknown,
    PublishUnconfirmed,
    QueueFull,
    StoreUnavailable,
    Unavailable,
)
from app.domain.task import Owner, Task
from app.observability.logging import bind, get_log
from app.security.principal import Principal, Scope, authorize
from app.security.sealing import Sealer
from app.security.tokens import TaskTokenIssuer
from app.store.tasks import Exists, TaskStore, pending_task

STARTS: Final = 3
"""How often a keyed submission begins, should Redis be emptied under it."""

log = get_log("submission")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A promised task, and the token that opens it."""

    task: Task
    task_token: str
    replayed: bool


class Submissions:
    """Takes orders."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        publisher: Publisher,
        sealer: Sealer,
        task_tokens: TaskTokenIssuer,
        max_attempts: int,
    ) -> None:
        self._tasks = tasks
        self._publisher = publisher
        self._sealer = sealer
        self._task_tokens = task_tokens
        self._max_attempts = max_attempts

    async def submit(
        self,
        action: Action,
        *,
        principal: Principal,
        body: dict[str, Any],
        idempotency_key: str | None,
        request_id: str,
    ) -> Accepted:
        """Promise a task: when this returns, the broker has it on disk and Redis shows it.

        Args:
            action: The validated order.
            principal: Who asks.
            body: The body as it was sent; a later request with the same key is held against it.
            idempotency_key: Names the task, together with the caller; None for a new task each time.
            request_id: Follows the task through message headers and logs.

        Raises:
            InsufficientScope: The caller may not submit.
            IdempotencyKeyReused: The key was used with another body.
            BrokerUnavailable, QueueFull, StoreUnavailable: Nothing was accepted.
            OutcomeUnknown: The task may run.
        """
        owner = authorize(principal, Scope.SUBMIT)
        fingerprint = fingerprint_of(body) if idempotency_key is not None else None
        for _ in range(STARTS):
            envelope = self._order(action, owner, idempotency_key, fingerprint, request_id)
            accepted = await self._begin(envelope)
            if accepted is not None:
                return accepted
        raise OutcomeUnknown  # it was confirmed each time, and forgotten by Redis each time

    def _order(
        self, action: Action, owner: Owner, idempotency_key: str | None, fingerprint: str | None, request_id: str
    ) -> Envelope:
        return Envelope(
            task_id=uuid4() if idempotency_key is None else derived_task_id(owner, idempotency_key),
            message_id=uuid4().hex,
            action=action.action_name,
            queue=action.queue_name,
            owner=owner,
            params=action.params,
            labels=tuple(action.labels),
            max_attempts=self._max_attempts,
            created_at=_now_ms(),
            request_id=request_id,
            fingerprint=fingerprint,
        )

    async def _begin(self, envelope: Envelope) -> Accepted | None:
        """Take one order through; None if it must be begun anew, since Redis has forgotten it on the way."""
        bind(task_id=str(envelope.task_id))
        sealed = self._sealer.seal(
            envelope.model_dump_json().encode(), task_id=envelope.task_id, action=envelope.action
        )
        created = await self._tasks.create(envelope, sealed)
        if isinstance(created, Exists):
            return self._replay(created.task, envelope)
        letter = Letter(
            task_id=envelope.task_id,
            message_id=envelope.message_id,
            action=envelope.action,
            queue=envelope.queue,
            sealed=sealed,
            request_id=envelope.request_id,
        )
        try:
            await self._publisher.publish(letter)
        except (BrokerUnavailable, QueueFull) as error:
            await self._take_back_unsent(envelope, error)
        except PublishUnconfirmed:
            return self._accepted(await self._take_back_sent(envelope), envelope)
        try:
            task = await self._tasks.queued(envelope.task_id, envelope.message_id)
        except StoreUnavailable as error:
            raise OutcomeUnknown from error
        if task is None:
            # Redis was emptied in between. The confirmed message alone rebuilds the task; but under a key another
            # request may make it anew meanwhile, so that one is begun again.
            if envelope.fingerprint is not None:
                return None
            task = pending_task(envelope, seq=_now_ms())
        log.info("accepted", action=envelope.action, queue=envelope.queue)
        return self._accepted(task, envelope)

    async def _take_back_unsent(self, envelope: Envelope, error: Unavailable) -> None:
        """Refuse an order whose message was certainly not taken."""
        try:
            await self._tasks.abort(envelope.task_id, envelope.message_id)
        except StoreUnavailable:
            log.warning("a refused task was not taken back; it goes by itself")
        raise error

    async def _take_back_sent(self, envelope: Envelope) -> Task:
        """Decide about an order whose message may have arrived: the task, if it is alive."""
        try:
            outcome = await self._tasks.abort(envelope.task_id, envelope.message_id)
        except StoreUnavailable as error:
            raise OutcomeUnknown from error
        if outcome == "ABORTED":
            raise BrokerUnavailable("The message broker did not confirm the task in time; nothing was accepted.")
        if outcome == "MISSING":
            raise OutcomeUnknown
        return outcome

    def _replay(self, task: Task, envelope: Envelope) -> Accepted:
        if task.fingerprint != envelope.fingerprint:
            raise IdempotencyKeyReused
        return self._accepted(task, envelope, replayed=True)

    def _accepted(self, task: Task, envelope: Envelope, *, replayed: bool = False) -> Accepted:
        return Accepted(task, self._task_tokens.issue(task.id, envelope.owner), replayed)


def derived_task_id(owner: Owner, idempotency_key: str) -> UUID:
    """Return the id of the task that a caller's Idempotency-Key names: UUIDv8 (RFC 9562) of a SHA-256."""
    digest = sha256(f"{owner.issuer}\0{owner.subject}\0{idempotency_key}".encode()).digest()
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 8 << 76  # version
    number = number & ~(0x3 << 62) | 2 << 62  # variant
    return UUID(int=number)


def fingerprint_of(body: dict[str, Any]) -> str:
    """Return the SHA-256 of a body's canonical form (RFC 8785), in hexadecimal."""
    try:
        canonical = rfc8785.dumps(body)
    except rfc8785.CanonicalizationError:  # an integer beyond 2^53, which RFC 8785 has no form for
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return sha256(canonical).hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
