"""Webhooks: what a task's owner can see and do about them. Another's task is an unknown one, here as everywhere."""

from uuid import UUID

from app.archive.deliveries import Deliveries, Listed
from app.observability.logging import get_log
from app.security.principal import Principal, Scope, authorize
from app.service.announcing import Announcements
from app.service.signing import SigningSecret, SigningSecrets
from app.service.status import Statuses
from app.service.submission import require_allowed
from app.store.keys import owner_id
from app.webhooks.destination import Destinations, Lookup

log = get_log("webhooks")


class Webhooks:
    """Shows attempts, and sends again, on behalf of owners. A task token opens none of it."""

    def __init__(
        self,
        *,
        statuses: Statuses,
        deliveries: Deliveries,
        announcements: Announcements,
        secrets: SigningSecrets,
        destinations: Destinations,
        lookup: Lookup,
    ) -> None:
        self._statuses = statuses
        self._deliveries = deliveries
        self._announcements = announcements
        self._secrets = secrets
        self._destinations = destinations
        self._lookup = lookup

    async def deliveries(self, task_id: UUID, *, principal: Principal) -> list[Listed]:
        """Return the attempts at a task's webhooks, the newest first.

        Raises:
            NotFound, InsufficientScope: As for `Statuses.read`.
            ArchiveUnavailable: It does not answer.
        """
        authorize(principal, Scope.READ)
        await self._statuses.read(task_id, principal=principal)
        return await self._deliveries.of_task(task_id)

    async def redeliver(self, task_id: UUID, delivery_id: str, *, principal: Principal) -> str:
        """Send the webhook of an earlier attempt again, at once, and by its schedule if that fails; return its id.

        Raises:
            NotFound: No such attempt at one of this task's webhooks; else as for `Statuses.read`.
            ArchiveUnavailable: It may or may not be sent.
        """
        authorize(principal, Scope.SUBMIT)
        await self._statuses.read(task_id, principal=principal, scope=Scope.SUBMIT)
        webhook_id = await self._announcements.again(task_id, delivery_id)
        log.info("redelivery", webhook_id=webhook_id)
        return webhook_id

    async def secrets(self, *, principal: Principal) -> list[SigningSecret]:
        """Return the caller's secrets that are good now, the older one first."""
        return await self._secrets.of(owner_id(authorize(principal, Scope.SUBMIT)))

    async def rotate(self, *, principal: Principal) -> list[SigningSecret]:
        """Give the caller a new secret; return those that are good then."""
        secrets = await self._secrets.rotate(owner_id(authorize(principal, Scope.SUBMIT)))
        log.info("webhook secret rotated")
        return secrets

    async def test(self, url: str, *, principal: Principal, request_id: str, traceparent: str | None) -> str:
        """Send a test; return its id.

        Raises:
            ValidationFailed: The URL may not be called.
            ArchiveUnavailable: It may or may not be sent.
        """
        owner = owner_id(authorize(principal, Scope.SUBMIT))
        await require_allowed(url, self._destinations, self._lookup)
        return await self._announcements.test(url, owner=owner, request_id=request_id, traceparent=traceparent)
