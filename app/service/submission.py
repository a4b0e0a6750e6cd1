"""Submission: seal, create, publish, confirm. A 202 is a promise; everything before it promises nothing."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

import rfc8785

from app.archive.archive import Archive, EndedTask, Forgotten
from app.domain.action import Action
from app.domain.envelope import Envelope
from app.domain.errors import ArchiveUnavailable, Gone, IdempotencyKeyReused, OutcomeUnknown, Unavailable
from app.domain.task import Owner, Task
from app.observability.logging import bind, get_log
from app.security.principal import Principal, Scope, authorize
from app.security.sealing import Sealer
from app.security.tokens import TaskTokenIssuer
from app.service.publication import Publications, now_ms, too_young
from app.store.keys import owner_id
from app.store.listing import OwnerLists
from app.store.replies import Created, Deleted, Exists, Young
from app.store.tasks import TaskStore

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
        lists: OwnerLists,
        archive: Archive,
        publications: Publications,
        sealer: Sealer,
        task_tokens: TaskTokenIssuer,
        max_attempts: int,
    ) -> None:
        self._tasks = tasks
        self._lists = lists
        self._archive = archive
        self._publications = publications
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
            Gone: The key's task was deleted.
            BrokerUnavailable, QueueFull, StoreUnavailable, ArchiveUnavailable: Nothing was accepted.
            OutcomeUnknown: The task may run.
        """
        owner = authorize(principal, Scope.SUBMIT)
        fingerprint = fingerprint_of(body) if idempotency_key is not None else None
        for start in range(STARTS):
            envelope = self._order(action, owner, idempotency_key, fingerprint, request_id)
            bind(task_id=str(envelope.task_id))
            try:
                accepted = await self._begin(envelope, first=start == 0)
            except Unavailable as error:
                if start == 0:
                    raise
                raise OutcomeUnknown from error  # a message of this request was confirmed: nothing is refused any more
            if accepted is not None:
                return accepted
        raise OutcomeUnknown  # it was confirmed each time, and forgotten by Redis each time

    def _order(
        self, action: Action, owner: Owner, idempotency_key: str | None, fingerprint: str | None, request_id: str
    ) -> Envelope:
        now = now_ms()
        return Envelope(
            task_id=uuid4() if idempotency_key is None else derived_task_id(owner, idempotency_key),
            message_id=uuid4().hex,
            action=action.action_name,
            queue=action.queue_name,
            owner=owner,
            params=action.params,
            labels=tuple(action.labels),
            max_attempts=action.max_attempts or self._max_attempts,
            timeout_seconds=action.timeout_seconds,
            created_at=now,
            not_before=now + int(action.delay_seconds * 1000) if action.delay_seconds else 0,
            request_id=request_id,
            fingerprint=fingerprint,
        )

    async def _begin(self, envelope: Envelope, *, first: bool) -> Accepted | None:
        """Take one order through; None if it must be begun anew, since Redis has forgotten it on the way."""
        sealed = self._sealer.seal_order(envelope)
        await self._lists.add(envelope)
        match await self._tasks.create(envelope, sealed):
            case Exists(task):
                return self._replay(task, envelope)
            case Young(wait):
                raise too_young(wait)
            case Deleted():
                raise Gone("The task of this Idempotency-Key was deleted.")
            case Created() as created:
                if created.fingerprint != envelope.fingerprint:
                    raise IdempotencyKeyReused  # of a request that is at it right now
                if envelope.fingerprint is not None:
                    ended = await self._ended_before(envelope)
                    if ended is not None:
                        return self._replay(ended, envelope)
                    if not created.by_other:
                        await self._lists.place(envelope)
                promised = await self._publications.promise(envelope, sealed, created, first=first)
                if promised is None:
                    return None
                log.info("accepted", action=envelope.action, queue=envelope.queue)
                return self._accepted(promised, envelope)

    async def _ended_before(self, envelope: Envelope) -> Task | None:
        """Return the end of a keyed task that Redis did not hold any more, and show it there again."""
        try:
            known = await self._archive.find(envelope.task_id)
        except ArchiveUnavailable:
            await self._tasks.abort(envelope)
            raise
        match known:
            case EndedTask(task=task):
                await self._tasks.settle(task, own=envelope.message_id)
                return task
            case Forgotten():
                await self._tasks.forget(envelope.task_id, owner_id(envelope.owner), again=True)
                raise Gone("The task of this Idempotency-Key was deleted.")
            case None:
                return None

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
