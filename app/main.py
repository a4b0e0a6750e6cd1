"""The API's wiring: routers, middleware, and what is opened at the start. The only place that does it."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.actions import load_catalogue
from app.api.dependencies import Services
from app.api.direct import DirectEntrance
from app.api.documents import install_openapi
from app.api.errors import answer_error
from app.api.middleware import RequestContext
from app.api.overload import RequestPlaces
from app.api.routes import (
    actions,
    admin,
    control,
    dashboard,
    events,
    health,
    live,
    pages,
    results,
    status,
    submission,
    tickets,
    webhooks,
)
from app.api.showing import Documents
from app.api.streams import Frames
from app.broker.depth import QueueDepths
from app.domain.errors import ConfigurationError, LonghaulError
from app.resources import Resources, depth_limits, open_resources, side_task
from app.security.key_sets import FixedKey, KeySet, KeySource, require_fitting
from app.security.task_tokens import TaskTokenKeys
from app.security.tokens import TaskTokenIssuer, TokenVerifier
from app.service.capacity import Capacity
from app.service.health import Health
from app.service.logs import Logs
from app.service.results import Results
from app.service.submission import Submissions
from app.service.tickets import Tickets
from app.service.watcher_places import WatcherPlaces
from app.service.watching import Watching
from app.service.webhooks import Webhooks
from app.service.wiring import administration, core_services
from app.settings import JwtSettings, Settings
from app.store.tickets import TicketStore

ROUTERS: Final = [
    module.router
    for module in (
        submission,
        status,
        control,
        results,
        live,
        events,
        tickets,
        webhooks,
        actions,
        admin,
        health,
        pages,
        dashboard,
    )
]
WITHOUT_HEAD: Final = frozenset({"/v1/workload/{task_id}/events"})
ALLOWED_HEADERS: Final = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-Request-ID",
    "traceparent",
    "tracestate",
]
EXPOSED_HEADERS: Final = [
    "Accept-Post",
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "Operation-Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Repr-Digest",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
]


class Methods:
    """Which methods a path has, over all routes: what a 405 must say."""

    def at(self, path: str) -> list[str]:
        """Return the methods served at a path, HEAD included wherever GET is, but for event streams."""
        found: set[str] = set()
        for router in ROUTERS:
            for route in router.routes:
                if isinstance(route, Route) and route.path_regex.match(path):
                    found |= route.methods or set()
                    if "GET" in found and route.path not in WITHOUT_HEAD:
                        found.add("HEAD")
        return sorted(found)


class Api(FastAPI):
    """FastAPI inside of our own middleware, which catches what goes wrong in it, and takes the shortest way in."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self._settings = settings
        super().__init__(**options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, past FastAPI's telemetry, which would look into the environment for each."""
        serve = super().__call__ if scope["type"] == "lifespan" else super(FastAPI, self).__call__
        await serve(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Return all that a request goes through, from the outside in."""
        app: ASGIApp = DirectEntrance(super().build_middleware_stack(), routers=ROUTERS)
        if self._settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=self._settings.cors_origins,
                allow_methods=["GET", "HEAD", "POST", "DELETE"],
                allow_headers=ALLOWED_HEADERS,
                expose_headers=EXPOSED_HEADERS,
            )
        return RequestContext(RequestPlaces(app, total=self._settings.api.max_requests))


def create_app(settings: Settings) -> FastAPI:
    """Return the API. Servers are connected to when it starts, not before.

    Raises:
        ConfigurationError: The settings name actions or queues that do not fit together.
    """
    catalogue = load_catalogue(settings.actions, dataset_ids=settings.datasets.keys())
    keys = verification_keys(settings.jwt)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, name="longhaul api") as resources:
            depths = QueueDepths(resources.publishing, resources.catalogue.queues)
            app.state.services = _services(resources, keys, depths)
            async with side_task(depths.run(), name="depths"):
                yield

    app = Api(
        settings,
        title="Longhaul",
        version=__version__,
        description="Long-running work behind an HTTP API: post a job, get 202 at once, watch it, download the result.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={LonghaulError: answer_error, HTTPException: answer_error},
    )
    app.state.methods = Methods()
    for router in ROUTERS:
        app.include_router(router)
    install_openapi(app, catalogue, ROUTERS)
    return app


def _services(resources: Resources, keys: KeySource, depths: QueueDepths) -> Services:
    settings = resources.settings
    core = core_services(resources)
    documents = Documents(settings.public_url)
    task_keys = task_token_keys(settings)
    return Services(
        settings=settings,
        catalogue=resources.catalogue,
        verifier=token_verifier(settings.jwt, keys, task_keys),
        submissions=Submissions(
            tasks=resources.tasks,
            lists=resources.lists,
            limits=resources.limits,
            capacity=Capacity(depths, depth_limits(settings, resources.catalogue)),
            archive=resources.archive,
            publications=core.publications,
            sealer=resources.sealer,
            task_tokens=TaskTokenIssuer(
                keys=task_keys,
                issuer=settings.jwt.issuer,
                audience=settings.jwt.audience,
                ttl_seconds=timedelta(hours=settings.task_token_ttl_hours) // timedelta(seconds=1),
            ),
            destinations=resources.destinations,
            lookup=resources.lookup,
            max_attempts=settings.max_attempts,
        ),
        statuses=core.statuses,
        control=core.control,
        watching=Watching(
            statuses=core.statuses,
            subscriptions=resources.subscriptions,
            logs=resources.logs,
            places=WatcherPlaces(total=settings.api.max_watchers, each=settings.api.max_watchers_per_owner),
        ),
        tickets=Tickets(store=TicketStore(resources.redis), sealer=resources.sealer, statuses=core.statuses),
        logs=Logs(statuses=core.statuses, logs=resources.logs),
        documents=documents,
        frames=Frames(documents),
        results=Results(statuses=core.statuses, results=resources.results, links=core.links),
        webhooks=Webhooks(
            statuses=core.statuses,
            deliveries=resources.archive.deliveries,
            announcements=core.announcements,
            secrets=core.secrets,
            destinations=resources.destinations,
            lookup=resources.lookup,
        ),
        health=Health(redis=resources.redis, publisher=resources.publisher, archive=resources.archive),
        administration=administration(resources, core),
    )


def task_token_keys(settings: Settings) -> TaskTokenKeys:
    """Return the keys of task tokens under these settings."""
    return TaskTokenKeys({key_id: key.get_secret_value() for key_id, key in settings.encryption_keys.items()})


def verification_keys(jwt: JwtSettings) -> KeySource:
    """Return where the keys come from that access tokens are verified with.

    Raises:
        ConfigurationError: The public key is none, or not for the algorithm.
    """
    if jwt.algorithm == "HS256":
        return FixedKey(jwt.secret.get_secret_value() if jwt.secret else "")
    if jwt.jwks_url is not None:
        return KeySet(jwt.jwks_url, jwt.algorithm)
    pem = jwt.public_key or ""
    try:
        require_fitting(pem, jwt.algorithm)
    except ValueError as error:
        raise ConfigurationError(f"jwt.public_key: {error}") from None
    return FixedKey(pem)


def token_verifier(jwt: JwtSettings, keys: KeySource, task_keys: TaskTokenKeys) -> TokenVerifier:
    """Return what verifies bearer tokens under these settings."""
    return TokenVerifier(
        algorithm=jwt.algorithm,
        keys=keys,
        issuer=jwt.issuer,
        audience=jwt.audience,
        leeway_seconds=jwt.leeway_seconds,
        task_keys=task_keys,
        only_access_tokens=jwt.only_access_tokens,
    )
