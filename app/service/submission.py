"""Submission: seal, create, publish, confirm. A 202 is a promise; everything before it promises nothing."""

import json
from hashlib import sha256
from secrets import token_hex
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import rfc8785

from app.archive.archive import Archive, EndedTask, Forgotten
from app.domain.action import Action
from app.domain.envelope import Envelope
from app.domain.errors import (
    ArchiveUnavailable,
    ForbiddenDestination,
    Gone,
    IdempotencyKeyReused,
    LimitExceeded,
    LonghaulError,
    OutcomeUnknown,
    QueueFull,
    StoreUnavailable,
    Unavailable,
    ValidationFailed,
)
from app.domain.limits import RateStatus
from app.domain.problem import FieldError
from app.domain.task import Owner, Task, id_text
from app.observability.crash_points import crash_point
from app.observability.logging import bind, get_log
from app.security.principal import Principal, Scope, authorize
from app.security.sealing import Sealer
from app.security.tokens import TaskTokenIssuer
from app.service.capacity import Capacity
from app.service.publication import Publications, now_ms, too_young
from app.store.keys import owner_id
from app.store.limits import Admission, OwnerLimits
from app.store.listing import OwnerLists
from app.store.replies import Created, Deleted, Exists, Young
from app.store.tasks import TaskStore
from app.webhooks.destination import Destinations, Lookup

LOOKUP_SECONDS: Final = 1.0
"""What a submission waits for a name's addresses; without an answer they are checked when the first webhook is sent."""
STARTS: Final = 3
"""How often a keyed submission begins, should Redis be emptied under it."""

log = get_log("submission")


class Accepted(NamedTuple):
    """A promised task, and the token that opens it."""

    task: Task
    task_token: str
    replayed: bool
    rate: RateStatus


class Submissions:
    """Takes orders."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        lists: OwnerLists,
        limits: OwnerLimits,
        capacity: Capacity,
        archive: Archive,
        publications: Publications,
        sealer: Sealer,
        task_tokens: TaskTokenIssuer,
        destinations: Destinations,
        lookup: Lookup,
        max_attempts: int,
    ) -> None:
        self._tasks = tasks
        self._lists = lists
        self._limits = limits
        self._capacity = capacity
        self._archive = archive
        self._publications = publications
        self._sealer = sealer
        self._task_tokens = task_tokens
        self._destinations = destinations
        self._lookup = lookup
        self._max_attempts = max_attempts

    async def submit(
        self,
        action: Action,
        *,
        principal: Principal,
        body: dict[str, Any],
        idempotency_key: str | None,
        request_id: str,
        traceparent: str | None = None,
    ) -> Accepted:
        """Promise a task: when this returns, the broker has it on disk and Redis shows it.

        Args:
            action: The validated order.
            principal: Who asks.
            body: The body as it was sent; a later request with the same key is held against it.
            idempotency_key: Names the task, together with the caller; None for a new task each time.
            request_id: Follows the task through message headers and logs.
            traceparent: The caller's trace (W3C), which the task's webhooks continue.

        Raises:
            InsufficientScope: The caller may not submit.
            ValidationFailed: Its `callback_url` may not be called.
            IdempotencyKeyReused: The key was used with another body.
            Gone: The key's task was deleted.
            RateLimited, QuotaExceeded: The owner has used up its share; a key whose task is there is answered even so.
            BrokerUnavailable, QueueFull, StoreUnavailable, ArchiveUnavailable: Nothing was accepted.
            OutcomeUnknown: The task may run.
        """
        owner = authorize(principal, Scope.SUBMIT)
        if action.callback is not None:
            await require_allowed(action.callback.url, self._destinations, self._lookup)
        fingerprint = fingerprint_of(body) if idempotency_key is not None else None
        envelope = self._order(action, owner, idempotency_key, fingerprint, request_id, traceparent)
        bind(task_id=id_text(envelope.task_id), action=envelope.action, queue=envelope.queue)
        try:
            admission = await self._limits.admit(envelope)
        except LimitExceeded as error:
            return await self._replay_or_raise(envelope, error, error.rate)
        crash_point("after_admission")
        try:
            with await self._capacity.place(envelope.queue):
                for start in range(STARTS):
                    if start:
                        envelope = self._order(action, owner, idempotency_key, fingerprint, request_id, traceparent)
                    accepted = await self._take(envelope, admission, first=start == 0)
                    if accepted is not None:
                        return accepted
        except OutcomeUnknown:
            raise
        except QueueFull:
            await self._release(envelope, admission)
            return await self._replay_or_raise(envelope, self._capacity.full(envelope.queue), admission.rate)
        except LonghaulError:
            await self._release(envelope, admission)
            raise
        raise OutcomeUnknown  # it was confirmed each time, and forgotten by Redis each time

    def _order(
        self,
        action: Action,
        owner: Owner,
        idempotency_key: str | None,
        fingerprint: str | None,
        request_id: str,
        traceparent: str | None,
    ) -> Envelope:
        now = now_ms()
        return Envelope(
            task_id=uuid4() if idempotency_key is None else derived_task_id(owner, idempotency_key),
            message_id=token_hex(16),
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
            traceparent=traceparent,
            fingerprint=fingerprint,
            callback=action.callback,
        )

    async def _replay_or_raise(self, envelope: Envelope, refusal: LonghaulError, rate: RateStatus) -> Accepted:
        """Answer a request that is not admitted: a task that its key names already is shown, and takes nothing."""
        if envelope.fingerprint is not None:
            task = await self._tasks.find(envelope.task_id)
            if task is None:
                match await self._archive.find(envelope.task_id):
                    case EndedTask(task=task):
                        pass
                    case Forgotten():
                        raise Gone("The task of this Idempotency-Key was deleted.")
                    case None:
                        raise refusal
            return self._replay(task, envelope, rate)
        raise refusal

    async def _release(self, envelope: Envelope, admission: Admission) -> None:
        """Count a task no more that came to nothing, if it was this request that made it count."""
        if admission.is_new:
            try:
                await self._limits.release(owner_id(envelope.owner), envelope.task_id)
            except StoreUnavailable:
                log.warning("a refused task still counts for its owner, until the leader looks")

    async def _take(self, envelope: Envelope, admission: Admission, *, first: bool) -> Accepted | None:
        """As `_begin`; but who starts over has had a message confirmed, and refuses nothing any more."""
        try:
            return await self._begin(envelope, admission, first=first)
        except Unavailable as error:
            if first:
                raise
            raise OutcomeUnknown from error

    async def _begin(self, envelope: Envelope, admission: Admission, *, first: bool) -> Accepted | None:
        """Take one order through; None if it must be begun anew, since Redis has forgotten it on the way."""
        sealed = self._sealer.seal_order(envelope)
        match await self._tasks.create(envelope, sealed):
            case Exists(task):
                return await self._replay_admitted(task, envelope, admission)
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
                        return await self._replay_admitted(ended, envelope, admission)
                    if not created.by_other:
                        await self._lists.place(envelope)
                promised = await self._publications.promise(envelope, sealed, created, first=first)
                if promised is None:
                    return None
                log.debug("accepted")  # the request's own line says it, too, once it is answered
                return self._accepted(promised, envelope, admission.rate)

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

    async def _replay_admitted(self, task: Task, envelope: Envelope, admission: Admission) -> Accepted:
        if task.status.is_terminal:  # it took a place that it does not need
            await self._release(envelope, admission)
        return self._replay(task, envelope, admission.rate)

    def _replay(self, task: Task, envelope: Envelope, rate: RateStatus) -> Accepted:
        if task.fingerprint != envelope.fingerprint:
            raise IdempotencyKeyReused
        return self._accepted(task, envelope, rate, replayed=True)

    def _accepted(self, task: Task, envelope: Envelope, rate: RateStatus, *, replayed: bool = False) -> Accepted:
        return Accepted(task, self._task_tokens.issue(task.id, envelope.owner), replayed, rate)


async def require_allowed(url: str, destinations: Destinations, lookup: Lookup) -> None:
    """Check that webhooks may be sent to a callback URL.

    Raises:
        ValidationFailed: They may not.
    """
    try:
        destination = destinations.read(url)
        await destinations.check_name(destination, lookup, seconds=LOOKUP_SECONDS)
    except ForbiddenDestination as error:
        wrong = FieldError(pointer="#/callback_url", detail=error.detail)
        raise ValidationFailed("The callback URL may not be called.", errors=[wrong]) from error


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
