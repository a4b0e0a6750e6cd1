"""Who may use which route: every route and protocol of the application, two callers, every scope. A row for each route.

A new route without a row fails here. To add one, say what it needs (`Row`): the scope, what its owner gets for a task
in which state, and whether a task token opens it. The rest is held by the tests below, for all routes alike.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.domain.task import Owner
from app.main import WITHOUT_HEAD, task_token_keys
from app.security.principal import Scope
from app.security.tokens import TaskTokenIssuer
from app.store.keys import task_key
from tests.api.conftest import NO_TLS
from tests.api.route_table import all_routes
from tests.api.staging import Staging
from tests.support.service import Service

State = Literal["waiting", "running", "finished", "cancelled", "archived"]
STATES: Final[tuple[State, ...]] = ("waiting", "running", "finished", "cancelled", "archived")
READ, SUBMIT, ADMIN = Scope.READ, Scope.SUBMIT, Scope.ADMIN
TASK: Final = "{task_id}"


@dataclass(frozen=True)
class Row:
    """What a route asks of its caller, and what the right one gets.

    `scope`: what a token must cover, None for what is public. `answer`: what the owner gets, a status or `open` for a
    socket that says something. `state`: of the task that the owner asks about; None where the route is about none.
    `task_token`: whether the task's own token opens it. `body`: JSON, in which `{task_id}` stands for the task, as it
    does in the path; `values` fill the path's other parameters.
    """

    scope: Scope | None
    answer: int | Literal["open"] = 200
    state: State | None = None
    task_token: bool = False
    body: Mapping[str, Any] | None = None
    values: Mapping[str, str] = field(default_factory=dict)


ROWS: Final[dict[tuple[str, str], Row]] = {
    ("POST", "/v1/workload"): Row(SUBMIT, 202, body={"action": "noop", "id": 1}),
    ("GET", "/v1/workload"): Row(READ),
    ("GET", "/v1/actions"): Row(READ),
    ("GET", "/v1/workload/status/{task_id}"): Row(READ, state="waiting", task_token=True),
    ("GET", "/v1/workload/{task_id}/result"): Row(READ, state="finished", task_token=True),
    ("POST", "/v1/workload/{task_id}/cancel"): Row(SUBMIT, 202, state="running", task_token=True),
    ("POST", "/v1/workload/{task_id}/retry"): Row(SUBMIT, 202, state="cancelled"),
    ("DELETE", "/v1/workload/{task_id}"): Row(SUBMIT, 204, state="cancelled"),
    ("WS", "/v1/workload/{task_id}/ws"): Row(READ, "open", state="waiting", task_token=True),
    ("WS", "/v1/workload/ws"): Row(READ, "open"),
    ("GET", "/v1/workload/{task_id}/events"): Row(READ, state="waiting", task_token=True),
    ("GET", "/v1/workload/{task_id}/logs"): Row(READ, state="waiting", task_token=True),
    ("POST", "/v1/tickets"): Row(READ, 201, body={"kind": "ws"}),
    ("GET", "/v1/workload/{task_id}/deliveries"): Row(READ, state="finished"),
    # A task without a webhook: the right one gets 404, too. tests/journeys/test_webhooks.py has one with.
    ("POST", "/v1/workload/{task_id}/deliveries/{delivery_id}/redeliver"): Row(
        SUBMIT, 404, state="finished", values={"delivery_id": "none"}
    ),
    ("GET", "/v1/webhooks/secret"): Row(SUBMIT),
    ("POST", "/v1/webhooks/secret/rotate"): Row(SUBMIT),
    ("POST", "/v1/webhooks/test"): Row(SUBMIT, 202, body={"callback_url": "http://127.0.0.1:9/"}),
    ("GET", "/v1/admin/queues"): Row(ADMIN),
    ("GET", "/v1/admin/queues/{queue}"): Row(ADMIN, values={"queue": "bench"}),
    ("POST", "/v1/admin/queues/{queue}/pause"): Row(ADMIN, 404, values={"queue": "none"}),
    ("POST", "/v1/admin/queues/{queue}/resume"): Row(ADMIN, 404, values={"queue": "none"}),
    ("GET", "/v1/admin/workers"): Row(ADMIN),
    ("GET", "/v1/admin/tasks"): Row(ADMIN),
    ("GET", "/v1/admin/tasks/stalled"): Row(ADMIN),
    ("GET", "/v1/admin/tasks/{task_id}"): Row(ADMIN, 404),
    ("POST", "/v1/admin/tasks/{task_id}/requeue"): Row(ADMIN, 404),
    ("GET", "/v1/admin/tasks/{task_id}/deliveries"): Row(ADMIN, 404),
    ("POST", "/v1/admin/tasks/{task_id}/deliveries/{delivery_id}/redeliver"): Row(
        ADMIN, 404, values={"delivery_id": "none"}
    ),
    ("GET", "/v1/admin/dead-letters"): Row(ADMIN),
    ("POST", "/v1/admin/dead-letters/{letter_id}/redrive"): Row(ADMIN, 404, values={"letter_id": "none"}),
    ("POST", "/v1/admin/dead-letters/{letter_id}/purge"): Row(ADMIN, 404, values={"letter_id": "none"}),
    ("GET", "/dashboard"): Row(None),
    ("GET", "/dashboard/tasks/{task_id}"): Row(None),
    ("GET", "/dashboard/{view}"): Row(None, values={"view": "queues"}),
    ("GET", "/dashboard/assets/{digest}/{name}"): Row(None, 404, values={"digest": "none", "name": "none"}),
    ("GET", "/healthz"): Row(None),
    ("GET", "/readyz"): Row(None),
    ("GET", "/openapi.json"): Row(None),
    ("GET", "/asyncapi.json"): Row(None),
    ("GET", "/docs"): Row(None),
    ("GET", "/docs/assets/{name}"): Row(None, values={"name": "swagger-ui.css"}),
    ("GET", "/static/{name}"): Row(None, values={"name": "page.css"}),
    ("GET", "/problems"): Row(None),
    ("GET", "/problems/{slug}"): Row(None, values={"slug": "gone"}),
}

Route = tuple[str, str]
PUBLIC: Final = [route for route, row in ROWS.items() if row.scope is None]
GUARDED: Final = [route for route, row in ROWS.items() if row.scope is not None]
OF_A_TASK: Final = [route for route, row in ROWS.items() if row.state is not None]
SILENCE_SECONDS: Final = 1.0
CLOSED_AS: Final = {401: 4401, 403: 4403, 404: 4404}


def named(routes: Sequence[Route]) -> pytest.MarkDecorator:
    """Parametrize over routes, with readable names."""
    return pytest.mark.parametrize("route", routes, ids=[" ".join(route) for route in routes])


def test_every_route_has_a_row() -> None:
    routes = all_routes()
    assert len(routes) > 10
    missing, gone = routes - ROWS.keys(), ROWS.keys() - routes
    assert not missing, f"add a row to ROWS in tests/api/test_access_matrix.py for {sorted(missing)}"
    assert not gone, f"no such route any more: {sorted(gone)}"


@dataclass(frozen=True)
class Answer:
    """What a caller can see of an answer, but for the ids in it and the time."""

    status: int | str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Door:
    """Knocks at any route, HTTP or WebSocket, with any token."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, route: Route, task_id: object, token: str | None, *, method: str = "") -> Answer:
        """Use a route; `method` instead of the route's own. Without a token none is sent."""
        kind, path = route
        row, sent_id = ROWS[route], str(task_id)
        path = path.format(**({"task_id": sent_id} | dict(row.values)))
        headers = {"X-Request-ID": "the-matrix"} | ({"Authorization": f"Bearer {token}"} if token is not None else {})
        if kind == "WS":
            return await self._open(path, headers)
        body = json.dumps(row.body).replace(TASK, sent_id) if row.body is not None else None
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with (
            httpx.AsyncClient(base_url=self._service.base_url, timeout=20, verify=NO_TLS) as client,
            client.stream(method or kind, path, headers=headers, content=body) as answer,
        ):
            shown = [(name, value) for name, value in answer.headers.items() if name != "date"]
            endless = answer.headers.get("content-type", "").startswith("text/event-stream")
            content = b"" if endless else await answer.aread()
        hidden = [(name, value.replace(sent_id, "…")) for name, value in shown]
        return Answer(answer.status_code, tuple(hidden), content.replace(sent_id.encode(), b"..."))

    async def _open(self, path: str, headers: dict[str, str]) -> Answer:
        """Open a socket: `open` if it says something, else the close code, as a status, and the reason."""
        url = self._service.base_url.replace("http", "ws", 1) + path
        async with connect(url, additional_headers=headers, proxy=None, compression=None, open_timeout=20) as socket:
            assert socket.response is not None
            shown = [
                (name.lower(), value)
                for name, value in socket.response.headers.raw_items()
                if name.lower() not in ("date", "sec-websocket-accept")
            ]
            try:
                with contextlib.suppress(TimeoutError):  # nothing to say yet, but let in
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await socket.recv()
            except ConnectionClosed:
                known = {code: status for status, code in CLOSED_AS.items()}
                code = socket.close_code or 0
                return Answer(known.get(code, code), tuple(shown), (socket.close_reason or "").encode())
            return Answer("open", tuple(shown))


@pytest.fixture
def door(service: Service) -> Door:
    return Door(service)


async def made(state: State, staging: Staging, alice: httpx.AsyncClient, redis: Redis) -> UUID:
    """Make a task of alice's in this state."""
    match state:
        case "waiting":
            return await staging.pending()
        case "running":
            return (await staging.processing())[0]
        case "finished":
            return await staging.completed(b"what only alice may read")
    order = {"action": "noop", "id": 1, "delay_seconds": 600}
    task_id = UUID((await alice.post("/v1/workload", json=order)).json()["task_id"])
    assert (await alice.post(f"/v1/workload/{task_id}/cancel")).json()["status"] == "CANCELLED"
    if state == "archived":  # Redis has let it expire, and SQL alone knows
        await redis.delete(task_key(task_id))
    return task_id


async def snapshot(task_id: UUID, alice: httpx.AsyncClient, redis: Redis) -> tuple[Any, Any]:
    """Return what is kept of a task, and what its owner sees."""
    return await redis.hgetall(task_key(task_id)), (await alice.get(f"/v1/workload/status/{task_id}")).json()


@named(OF_A_TASK)
async def test_the_owner_is_let_in(
    route: Route, service: Service, subject: str, door: Door, staging: Staging, alice: httpx.AsyncClient,
    service_redis: Redis,
) -> None:  # fmt: skip
    """The control of the next test: what is closed to others is there, and open to whom it belongs."""
    row = ROWS[route]
    assert row.state is not None
    task_id = await made(row.state, staging, alice, service_redis)
    assert (await door.ask(route, task_id, service.token(subject))).status == row.answer


@named(OF_A_TASK)
async def test_anothers_task_is_what_is_not_there_byte_for_byte(
    route: Route, service: Service, subject: str, door: Door, staging: Staging, alice: httpx.AsyncClient,
    service_redis: Redis,
) -> None:  # fmt: skip
    every_scope = f"{READ} {SUBMIT} {ADMIN}"
    strangers = [service.token(f"not-{subject}", scopes=scopes) for scopes in (None, every_scope)]
    with_head = route[0] == "GET" and route[1] not in WITHOUT_HEAD
    methods = [route[0], "HEAD"] if with_head else [route[0]]
    for method in methods:
        unknown = await door.ask(route, uuid4(), strangers[0], method=method)
        assert unknown.status == 404
        for state in STATES:
            task_id = await made(state, staging, alice, service_redis)
            before = await snapshot(task_id, alice, service_redis)
            for stranger in strangers:
                assert await door.ask(route, task_id, stranger, method=method) == unknown, (state, method)
            assert await snapshot(task_id, alice, service_redis) == before, (state, method)


SCOPE_CLAIMS: Final[tuple[str | None, ...]] = (
    None, "", READ, SUBMIT, ADMIN, f"{READ} {SUBMIT}", f"{READ} {ADMIN}", f"{SUBMIT} {ADMIN}",
    f"{READ} {SUBMIT} {ADMIN}", "workload", "WORKLOAD:READ", "workload:read,workload:submit",
)  # fmt: skip


@named(GUARDED)
async def test_a_scope_opens_what_needs_it_and_nothing_else(
    route: Route, service: Service, subject: str, door: Door
) -> None:
    row = ROWS[route]
    for claim in SCOPE_CLAIMS:
        held = {READ, SUBMIT} if claim is None else set(claim.split())
        answer = await door.ask(route, uuid4(), service.token(subject, scopes=claim))
        if row.scope in held:
            assert answer.status == (404 if row.state else row.answer), claim
        else:
            assert answer.status == 403, claim
            if route[0] != "WS":
                challenge = f'Bearer realm="longhaul", error="insufficient_scope", scope="{row.scope}"'
                assert dict(answer.headers)["www-authenticate"] == challenge


@named(GUARDED)
async def test_without_a_token_or_with_a_bad_one_it_is_401(route: Route, door: Door) -> None:
    for token in (None, "nonsense"):
        answer = await door.ask(route, uuid4(), token)
        assert answer.status == 401
        if route[0] != "WS":
            error = ', error="invalid_token"' if token else ""
            assert dict(answer.headers)["www-authenticate"] == f'Bearer realm="longhaul"{error}'


@named(PUBLIC)
async def test_what_is_public_is_the_same_for_everybody(
    route: Route, service: Service, subject: str, door: Door
) -> None:
    answers = [await door.ask(route, uuid4(), token) for token in (None, "nonsense", service.token(subject))]
    assert answers[0].status == ROWS[route].answer
    assert answers[1:] == answers[:-1]


@named(GUARDED)
async def test_a_task_token_opens_its_own_task_where_that_is_meant(
    route: Route, service: Service, door: Door, staging: Staging, alice: httpx.AsyncClient, service_redis: Redis
) -> None:
    row = ROWS[route]
    mine = await made(row.state or "waiting", staging, alice, service_redis)
    other = await made(row.state or "waiting", staging, alice, service_redis)
    before = await snapshot(other, alice, service_redis)
    token = _issue(service, mine, staging.owner)
    if row.task_token:
        assert (await door.ask(route, mine, token)).status == row.answer
        unknown = await door.ask(route, uuid4(), token)
        assert unknown.status == 404
        assert await door.ask(route, other, token) == unknown
    else:
        for task_id in (mine, other, uuid4()):
            assert (await door.ask(route, task_id, token)).status == 403
    assert await snapshot(other, alice, service_redis) == before


def _issue(service: Service, task_id: UUID, owner: Owner) -> str:
    settings = service.settings
    issuer = TaskTokenIssuer(
        keys=task_token_keys(settings), issuer=settings.jwt.issuer, audience=settings.jwt.audience, ttl_seconds=600
    )
    return issuer.issue(task_id, owner)


def test_the_openapi_document_names_the_scope_of_each_route(contract: dict[str, Any]) -> None:
    for (method, path), row in ROWS.items():
        operation = contract["paths"].get(path, {}).get(method.lower())
        if operation is not None:
            others: list[dict[str, list[Scope]]] = [{"ticket": []}] if path.endswith("/events") else []
            wanted = [{"bearer": [row.scope]}, *others] if row.scope else None
            assert operation.get("security") == wanted, (method, path)
    scheme = contract["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")
