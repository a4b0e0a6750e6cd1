"""Signing: with which secrets an owner's webhooks are signed. The first one is made when it is first needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.archive.deliveries import Deliveries, Secret
from app.domain.moments import span_milliseconds
from app.security.sealing import Sealer
from app.webhooks.signature import new_secret

PURPOSE: Final = "webhook secret"


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """An owner's secret, in the clear. The newest one has no `expires_at`."""

    text: str
    created_at: datetime
    expires_at: datetime | None


class SigningSecrets:
    """Owners' secrets. Each method raises ArchiveUnavailable, and Undecryptable for what no key opens."""

    def __init__(self, *, deliveries: Deliveries, sealer: Sealer, overlap: timedelta) -> None:
        self._deliveries = deliveries
        self._sealer = sealer
        self._overlap_ms = span_milliseconds(overlap)

    async def of(self, owner_id: str) -> list[SigningSecret]:
        """Return the secrets that are good now, the older one first; one at least."""
        found = await self._deliveries.secrets(owner_id)
        if not found:
            found = await self._deliveries.add_secret(owner_id, self._sealed_new(owner_id), overlap_ms=None)
        return self._opened(owner_id, found)

    async def rotate(self, owner_id: str) -> list[SigningSecret]:
        """Add a new secret; the one before signs beside it for the overlap, and one before that ends now."""
        sealed = self._sealed_new(owner_id)
        return self._opened(owner_id, await self._deliveries.add_secret(owner_id, sealed, overlap_ms=self._overlap_ms))

    def _sealed_new(self, owner_id: str) -> bytes:
        return self._sealer.seal(new_secret().encode(), task_id=UUID(owner_id), action=PURPOSE)

    def _opened(self, owner_id: str, found: Sequence[Secret]) -> list[SigningSecret]:
        return [
            SigningSecret(
                self._sealer.open(secret.sealed, task_id=UUID(owner_id), action=PURPOSE).decode(),
                secret.created_at,
                secret.expires_at,
            )
            for secret in found
        ]
