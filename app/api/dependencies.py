"""What routes are given, by name. Everything was opened at the start and hangs on the application's state."""

import re
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from app.api.showing import Documents
from app.api.streams import Frames
from app.domain.action import ActionCatalogue
from app.domain.errors import HeadersTooLarge, Malformed, NotFound, Unauthorized
from app.security.principal import Principal, Scope, authorize
from app.security.tokens import TokenVerifier
from app.service.administration import Administration
from app.service.control import Control
from app.service.health import Health
from app.service.logs import Logs
from app.service.results import ResultLink, Results
from app.service.status import Statuses
from app.service.submission import Submissions
from app.service.tickets import TicketKind, Tickets
from app.service.watching import Watching
from app.service.webhooks import Webhooks
from app.settings import Settings

MAX_HEADER_BYTES: Final = 32_768
UUID_TEXT: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Services:
    """What the application was wired with."""

    settings: Settings
    catalogue: ActionCatalogue
    verifier: TokenVerifier
    submissions: Submissions
    statuses: Statuses
    control: Control
    watching: Watching
    tickets: Tickets
    logs: Logs
    documents: Documents
    frames: Frames
    results: Results
    webhooks: Webhooks
    health: Health
    administration: Administration


@dataclass(frozen=True, slots=True)
class Part:
    """Gives a route one of the services, by its name."""

    name: str

    async def __call__(self, connection: HTTPConnection) -> Any:  # async: FastAPI would ask a plain one in a thread
        return getattr(connection.app.state.services, self.name)


async def bearer_principal(verifier: TokenVerifier, authorization: list[str]) -> Principal:
    """Return who sent these Authorization headers (RFC 6750, section 2.1).

    Raises:
        Unauthorized: None, several, another scheme, or a token that is not valid.
        StoreUnavailable: No key to verify it with can be had.
    """
    if len(authorization) != 1:
        raise Unauthorized
    scheme, _, token = authorization[0].strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized
    return await verifier.verify(token.strip())


async def stream_principal(connection: HTTPConnection, kind: TicketKind, authorization: list[str]) -> Principal:
    """Return who opens a stream: by a bearer token, or, where there is none, by a ticket in the query string.

    Args:
        connection: The request or the handshake.
        kind: Which tickets open it.
        authorization: The values of Authorization, or what stands for them.

    Raises:
        Unauthorized: Neither is valid, or a ticket stands there twice.
        StoreUnavailable: Redis does not answer.
    """
    services: Services = connection.app.state.services
    tickets = connection.query_params.getlist("ticket")
    if authorization or not tickets:
        return await bearer_principal(services.verifier, authorization)
    if len(tickets) > 1:
        raise Unauthorized("One ticket is expected.", token_was_sent=True)
    return await services.tickets.principal(tickets[0], kind=kind)


class NeedsScope:
    """What finds out who calls a route; the OpenAPI document takes from it which scope that needs."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


class CallerWith(NeedsScope):
    """Finds out who calls. The order of refusals is 401, 403, 431.

    On a task's path a task token comes through here; that it opens another task is seen where the task is read.
    """

    async def __call__(self, request: Request) -> Principal:
        services: Services = request.app.state.services
        principal = await bearer_principal(services.verifier, request.headers.getlist("authorization"))
        authorize(principal, self.scope, task_id=principal.only_task if "task_id" in request.path_params else None)
        require_small_headers(request)
        return principal


class AnyCallerWith(NeedsScope):
    """Finds out who calls a route that a task token may use, too, for its own task: the route sees to that."""

    async def __call__(self, request: Request) -> Principal:
        services: Services = request.app.state.services
        principal = await bearer_principal(services.verifier, request.headers.getlist("authorization"))
        authorize(principal, self.scope, task_id=principal.only_task)
        require_small_headers(request)
        return principal


def require_small_headers(request: Request) -> None:
    """Check that the header fields are not too many.

    Raises:
        HeadersTooLarge: They are.
    """
    if sum(map(len, chain.from_iterable(request.scope["headers"]))) > MAX_HEADER_BYTES:
        raise HeadersTooLarge


def path_task_id(task_id: str) -> UUID:
    """Read a task's id from a path.

    Raises:
        NotFound: It is no UUID, so there is no such task.
    """
    if not UUID_TEXT.fullmatch(task_id):
        raise NotFound
    return UUID(task_id)


async def _task_id(task_id: str) -> UUID:
    return path_task_id(task_id)


def idempotency_key_of(values: list[str]) -> str | None:
    """Read the Idempotency-Key header: bare, or as the IETF draft's quoted string, which is the same key.

    Raises:
        Malformed: It is empty, too long, repeated, or has other than visible ASCII characters.
    """
    if not values:
        return None
    key = values[0].strip(" \t")
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r'\\(["\\])', r"\1", key[1:-1])
    if len(values) > 1 or not IDEMPOTENCY_KEY.fullmatch(key):
        raise Malformed("Idempotency-Key takes one value of 1 to 255 visible ASCII characters.")
    return key


class CallerOrLink(NeedsScope):
    """Finds out who reads a result: whoever has a token, or, without one, whoever has a signed link."""

    async def __call__(self, request: Request) -> Principal | ResultLink:
        query, headers = request.query_params, request.headers
        if "authorization" not in headers and ("signature" in query or "expires" in query):
            return ResultLink(expires=query.get("expires", ""), signature=query.get("signature", ""))
        return await CallerWith(self.scope)(request)


# Dependencies are asked in the order of a route's arguments: the caller stands before the task's id, as 401 and 403
# come before 404.
Submitter = Annotated[Principal, Depends(CallerWith(Scope.SUBMIT))]
Reader = Annotated[Principal, Depends(CallerWith(Scope.READ))]
Administrator = Annotated[Principal, Depends(CallerWith(Scope.ADMIN))]
AnyReader = Annotated[Principal, Depends(AnyCallerWith(Scope.READ))]
ResultReader = Annotated[Principal | ResultLink, Depends(CallerOrLink(Scope.READ))]
TaskId = Annotated[UUID, Depends(_task_id)]
Catalogue = Annotated[ActionCatalogue, Depends(Part("catalogue"))]
Configuration = Annotated[Settings, Depends(Part("settings"))]
SubmissionService = Annotated[Submissions, Depends(Part("submissions"))]
StatusService = Annotated[Statuses, Depends(Part("statuses"))]
ControlService = Annotated[Control, Depends(Part("control"))]
WatchingService = Annotated[Watching, Depends(Part("watching"))]
TicketService = Annotated[Tickets, Depends(Part("tickets"))]
DocumentTexts = Annotated[Documents, Depends(Part("documents"))]
LogService = Annotated[Logs, Depends(Part("logs"))]
ResultService = Annotated[Results, Depends(Part("results"))]
WebhookService = Annotated[Webhooks, Depends(Part("webhooks"))]
AdministrationService = Annotated[Administration, Depends(Part("administration"))]
HealthService = Annotated[Health, Depends(Part("health"))]
