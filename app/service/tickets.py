"""Tickets: what a browser puts into a query string instead of a token: an EventSource takes no header.

A ticket says nothing by itself, opens live updates only, and soon ends. For a WebSocket it opens one, once; for
server-sent events it may come again, as EventSource does by itself, for one task.
"""

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final
from uuid import UUID

from app.domain.errors import Unauthorized, Undecryptable
from app.domain.task import Owner
from app.security.principal import Principal, Scope, authorize
from app.security.sealing import Sealer
from app.service.status import Statuses
from app.store.tickets import TicketStore


class TicketKind(StrEnum):
    """What a ticket opens."""

    WS = "ws"
    SSE = "sse"


LIFETIMES: Final = {TicketKind.WS: timedelta(seconds=60), TicketKind.SSE: timedelta(minutes=15)}
BYTES: Final = 32
MAX_TEXT: Final = 64


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket, as its caller gets it."""

    text: str
    expires_at: datetime


class Tickets:
    """Issues tickets and takes them."""

    def __init__(self, *, store: TicketStore, sealer: Sealer, statuses: Statuses) -> None:
        self._store = store
        self._sealer = sealer
        self._statuses = statuses

    async def issue(self, kind: TicketKind, *, task_id: UUID | None, principal: Principal) -> Ticket:
        """Return a new ticket; it opens no more than the caller's own token, and not for longer.

        Args:
            kind: What it is for.
            task_id: The one task that it opens; None for whatever the caller may watch.
            principal: Who asks.

        Raises:
            NotFound: There is no such task, or it is another's.
            InsufficientScope: The caller may not read; a task token, without its task.
            StoreUnavailable: Redis does not answer.
        """
        if task_id is None:
            authorize(principal, Scope.READ)
        else:
            await self._statuses.read(task_id, principal=principal)
        now = time.time()
        lifetime = min(LIFETIMES[kind], timedelta(seconds=max(1.0, principal.expires_at - now)))
        text = secrets.token_urlsafe(BYTES)
        digest = _digest(text)
        meaning = {
            "kind": kind,
            "issuer": principal.owner.issuer,
            "subject": principal.owner.subject,
            "expires_at": principal.expires_at,
            "only_task": str(task_id) if task_id else None,
        }
        bound_to = UUID(bytes=digest[:16])
        await self._store.put(
            digest, self._sealer.seal_json(meaning, task_id=bound_to, action="ticket") or b"", ttl=lifetime
        )
        return Ticket(text, datetime.fromtimestamp(now, UTC) + lifetime)

    async def principal(self, text: str, *, kind: TicketKind) -> Principal:
        """Return for whom a ticket stands, with the right to read; a WebSocket's ticket is used up by this.

        Raises:
            Unauthorized: It is none, has expired, was used, or is for something else.
            StoreUnavailable: Redis does not answer.
        """
        digest = _digest(text)
        sealed = await self._store.read(digest, once=kind is TicketKind.WS) if len(text) <= MAX_TEXT else None
        try:
            meaning = self._sealer.open_json(sealed, task_id=UUID(bytes=digest[:16]), action="ticket")
        except Undecryptable:
            meaning = None
        if meaning is None or meaning["kind"] != kind:
            raise Unauthorized("The ticket is not valid.", token_was_sent=True)
        only_task = meaning["only_task"]
        return Principal(
            owner=Owner(issuer=meaning["issuer"], subject=meaning["subject"]),
            scopes=frozenset({Scope.READ}),
            expires_at=meaning["expires_at"],
            only_task=UUID(only_task) if only_task else None,
        )


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="replace")).digest()
