"""The API's wiring: routers, middleware, and what is opened at the start. The only place that does it."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app import __version__
from app.actions import load_catalogue
from app.api.dependencies import Services
from app.api.documents import install_openapi
from app.api.errors import answer_error
from app.api.middleware import RequestContext
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
)
from app.api.showing import Documents
from app.domain.errors import LonghaulError
from app.resources import Resources, open_resources
from app.security.sealing import Sealer
from app.security.tokens import TaskTokenIssuer, TokenVerifier
from app.service.health import Health
from app.service.logs import Logs
from app.service.results import Results
from app.service.submission import Submissions
from app.service.tickets import Tickets
from app.service.watching import Watching
from app.service.wiring import administration, core_services
from app.settings import Settings
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
    "Preference-Applied",
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


def create_app(settings: Settings) -> FastAPI:
    """Return the API. Servers are connected to when it starts, not before.

    Raises:
        ConfigurationError: The settings name actions or queues that do not fit together.
    """
    catalogue = load_catalogue(settings.actions, dataset_ids=settings.datasets.keys())

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, name="longhaul api") as resources:
            app.state.services = _services(resources)
            yield

    app = FastAPI(
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
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestContext)
    install_openapi(app, catalogue)
    return app


def _services(resources: Resources) -> Services:
    settings = resources.settings
    core = core_services(resources)
    task_key = task_token_key(resources.sealer)
    return Services(
        settings=settings,
        catalogue=resources.catalogue,
        verifier=token_verifier(settings, task_key),
        submissions=Submissions(
            tasks=resources.tasks,
            lists=resources.lists,
            archive=resources.archive,
            publications=core.publications,
            sealer=resources.sealer,
            task_tokens=TaskTokenIssuer(
                key=task_key,
                issuer=settings.jwt.issuer,
                audience=settings.jwt.audience,
                ttl_seconds=timedelta(hours=settings.task_token_ttl_hours) // timedelta(seconds=1),
            ),
            max_attempts=settings.max_attempts,
        ),
        statuses=core.statuses,
        control=core.control,
        watching=Watching(
            statuses=core.statuses,
            subscriptions=resources.subscriptions,
            logs=resources.logs,
            max_watchers=settings.api.max_streams,
        ),
        tickets=Tickets(store=TicketStore(resources.redis), sealer=resources.sealer, statuses=core.statuses),
        logs=Logs(statuses=core.statuses, logs=resources.logs),
        documents=Documents(settings.public_url),
        results=Results(statuses=core.statuses, results=resources.results),
        health=Health(redis=resources.redis, publisher=resources.publisher, archive=resources.archive),
        administration=administration(resources, core),
    )


def task_token_key(sealer: Sealer) -> bytes:
    """Return the key of task tokens: its own, so that no access token can pass for one or the other way round."""
    return sealer.derived_key("task tokens")


def token_verifier(settings: Settings, task_key: bytes) -> TokenVerifier:
    """Return what verifies bearer tokens under these settings."""
    jwt = settings.jwt
    secret = jwt.secret.get_secret_value() if jwt.secret else ""
    return TokenVerifier(
        algorithm=jwt.algorithm,
        key=secret if jwt.algorithm == "HS256" else jwt.public_key or "",
        issuer=jwt.issuer,
        audience=jwt.audience,
        leeway_seconds=jwt.leeway_seconds,
        task_key=task_key,
    )
