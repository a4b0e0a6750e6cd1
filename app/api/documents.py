"""The OpenAPI document: what FastAPI cannot derive, since routes read and write their bodies themselves.

Bodies are read strictly before a model sees them (app/api/bodies.py), and documents are written by pydantic-core; so
the schemas of both are put in here, once, and the document stays complete.
"""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.dependencies import NeedsScope
from app.api.errors import MEDIA_TYPE, REALM, STATUS
from app.domain.action import ActionCatalogue
from app.domain.lifecycle import TaskStatus
from app.domain.log_line import LogLevel
from app.domain.problem import Problem
from app.domain.task import StatusDocument
from app.security.principal import Scope
from app.service.status import CURSOR
from app.webhooks.message import WebhookBody, WebhookType

REF: Final = "#/components/schemas/{model}"
MAX_PAGE: Final = 200
BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": (
        "An access token (RFC 9068) of the configured issuer; without a claim `scope` it may submit and read. On a "
        "task's own path its `task_token` will do."
    ),
}
EVERYWHERE: Final = (401, 403, 431, 500)
"""How every request under /v1 may be refused."""

UNUSED: Final = ("HTTPValidationError", "ValidationError")
"""What FastAPI adds by itself; a path id that is none is a 404."""

Fragment = dict[str, Any]

SUBMISSION_BODY: Final[Fragment] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": REF.format(model="Submission")}}},
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Names the task, together with the caller: repeating the request gives the same task.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        },
        {
            "name": "Prefer",
            "in": "header",
            "description": "`wait=N`: answer 200 if the task ends within N seconds (RFC 7240).",
            "schema": {"type": "string"},
        },
    ],
}
PREFERENCE_APPLIED: Final[Fragment] = {
    "Preference-Applied": {
        "description": "`wait=N`, with the seconds that were allowed.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
    }
}
WEBHOOK_SUMMARIES: Final = {
    WebhookType.STARTED: "A task has started",
    WebhookType.COMPLETED: "A task has completed",
    WebhookType.FAILED: "A task has failed",
    WebhookType.CANCELLED: "A task was cancelled",
    WebhookType.TEST: "A test delivery",
}
WEBHOOK_HEADERS: Final = {
    "webhook-id": "The event's id, the same at each attempt: remember it, since one may come twice.",
    "webhook-timestamp": "When this attempt was made; seconds since the epoch.",
    "webhook-signature": "Standard Webhooks: `v1,<base64>`, one for each secret that is good, between spaces.",
    "X-Hub-Signature-256": "`sha256=<hex>`: HMAC-SHA256 of the raw body under the whole secret.",
    "X-Request-ID": "Of the request that submitted the task.",
    "traceparent": "W3C Trace Context, of the submitted trace.",
}
ACCEPTED_RESPONSE: Final[Fragment] = {
    "description": "Accepted: the task will run.",
    "headers": {
        "Location": {"description": "Where the task's status is read.", "schema": {"type": "string"}},
        "Retry-After": {"description": "Seconds until it is worth asking.", "schema": {"type": "integer"}},
        "RateLimit-Policy": {
            "description": "Units in the caller's bucket (`q`), and in how many seconds an empty one fills (`w`).",
            "schema": {"type": "string"},
            "example": '"submit";q=600;w=60',
        },
        "RateLimit": {
            "description": "Units that are left (`r`), and whole seconds until there is one more (`t`).",
            "schema": {"type": "string"},
            "example": '"submit";r=599;t=1',
        },
        "Idempotent-Replayed": {"description": "The task was there already.", "schema": {"const": "true"}},
        **PREFERENCE_APPLIED,
    },
    "content": {"application/json": {"schema": {"$ref": REF.format(model="Accepted")}}},
}
ENDED_RESPONSE: Final[Fragment] = ACCEPTED_RESPONSE | {
    "description": "With `Prefer: wait`: accepted, and ended in that time."
}
STATUS_PARAMETERS: Final[Fragment] = {
    "parameters": [
        {"name": "If-None-Match", "in": "header", "description": "The last ETag.", "schema": {"type": "string"}},
        {
            "name": "Prefer",
            "in": "header",
            "description": "`wait=N`: answer when the task has ended, or with If-None-Match when it has changed, "
            "and in N seconds at the latest (RFC 7240).",
            "schema": {"type": "string"},
        },
    ]
}
EVENTS_PARAMETERS: Final[Fragment] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "Where to go on: the id of the last event that was seen.",
            "schema": {"type": "string"},
        }
    ],
    "security": [{"bearer": [Scope.READ]}, {"ticket": []}],
}
SENT_EVENT: Final[Fragment] = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["status", "log"]},
        "data": {"type": "string", "description": "JSON."},
    },
}
EVENT_RESPONSES: Final[dict[int | str, Fragment]] = {
    200: {
        "description": "`event: status` with a status document, `event: log` with a log line; ids are "
        "`<seq>.<line>`. It ends after the terminal document.",
        "content": {"text/event-stream": {"schema": SENT_EVENT}},
    },
    204: {"description": "Last-Event-ID has seen the end: do not come again."},
}
LOG_PARAMETERS: Final[Fragment] = {
    "parameters": [
        {
            "name": "after",
            "in": "query",
            "description": "Only lines with a higher number.",
            "schema": {"type": "integer", "minimum": 0, "default": 0},
        },
        {
            "name": "limit",
            "in": "query",
            "description": "How many at most; the first ones.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000},
        },
    ]
}
LOG_RESPONSE: Final[Fragment] = {
    "description": "The lines that are kept, in order.",
    "content": {"application/json": {"schema": {"$ref": REF.format(model="TaskLog")}}},
}
TICKET_BODY: Final[Fragment] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": REF.format(model="TicketOrder")}}},
    }
}
TICKET_RESPONSE: Final[Fragment] = {
    "description": "The ticket.",
    "content": {"application/json": {"schema": {"$ref": REF.format(model="Ticket")}}},
}
WITHOUT_NUL: Final[Fragment] = {"type": "string", "pattern": "^[^\\u0000]*$"}
LIST_PARAMETERS: Final[Fragment] = {
    "parameters": [
        {
            "name": "status",
            "in": "query",
            "description": "Repeatable: any of them.",
            "schema": {"type": "array", "items": {"enum": [status.value for status in TaskStatus]}},
        },
        {
            "name": "action",
            "in": "query",
            "description": "Repeatable: any of them.",
            "schema": {"type": "array", "items": WITHOUT_NUL},
        },
        {
            "name": "label",
            "in": "query",
            "description": "Repeatable: all of them.",
            "schema": {"type": "array", "items": WITHOUT_NUL},
        },
        {
            "name": "created_after",
            "in": "query",
            "description": "Inclusive.",
            "schema": {"type": "string", "format": "date-time"},
        },
        {
            "name": "created_before",
            "in": "query",
            "description": "Exclusive.",
            "schema": {"type": "string", "format": "date-time"},
        },
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50},
        },
        {
            "name": "cursor",
            "in": "query",
            "description": "The last page's next_cursor.",
            "schema": {"type": "string", "pattern": f"^{CURSOR}$"},
        },
    ],
    "responses": {"200": {"content": {"application/json": {"schema": {"$ref": REF.format(model="TaskPage")}}}}},
}
RESULT_PARAMETERS: Final[Fragment] = {
    "parameters": [
        {
            "name": "expires",
            "in": "query",
            "description": "Of a signed link, which needs no token: seconds since the epoch.",
            "schema": {"type": "integer"},
        },
        {"name": "signature", "in": "query", "description": "Of a signed link.", "schema": {"type": "string"}},
    ]
}
ADMIN_LIST_PARAMETERS: Final[Fragment] = {
    "parameters": [one for one in LIST_PARAMETERS["parameters"] if not one["name"].startswith("created_")]
}
REASON_BODY: Final[Fragment] = {
    "requestBody": {
        "description": "Why, for the audit.",
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["reason"],
                    "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 500}},
                    "additionalProperties": False,
                }
            }
        },
    }
}
RESULT_RESPONSES: Final[dict[int | str, Fragment]] = {
    200: {
        "description": "The file.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {
        "description": "The wanted part of it.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "Unchanged."},
}


def problems(*statuses: int) -> dict[int | str, Fragment]:
    """Return the error answers of a route, for OpenAPI."""
    return {status: _problem(status) for status in statuses}


def body_of(model: type[BaseModel]) -> Fragment:
    """Return the request body of a route that reads it by itself, for OpenAPI."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}},
    }


def _problem(status: int) -> Fragment:
    slugs = ", ".join(f"`{slug}`" for slug, known in STATUS.items() if known == status)
    answer: Fragment = {
        "description": slugs,
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
    }
    if status == STATUS["unauthorized"]:
        answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "example": REALM}}
    return answer


def install_openapi(app: FastAPI, catalogue: ActionCatalogue, routers: Sequence[APIRouter]) -> None:
    """Complete the application's OpenAPI document with what its routes only name."""
    needed = _needed_scopes(routers)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            components = document.setdefault("components", {})
            components["schemas"] = {**components.get("schemas", {}), **_schemas(catalogue)}
            for unused in UNUSED:
                components["schemas"].pop(unused, None)
            components["securitySchemes"] = {
                "bearer": BEARER,
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
            }
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _complete(operation, secured=path.startswith("/v1/"), needed=needed.get((method.upper(), path)))
            document["webhooks"] = {kind.value: {"post": _webhook(kind)} for kind in WebhookType}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _needed_scopes(routers: Sequence[APIRouter]) -> dict[tuple[str, str], Scope]:
    """Return the scope that each method of each path needs, as its route says."""
    needed: dict[tuple[str, str], Scope] = {}
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute):
            for dependency in route.dependant.dependencies:
                caller: object = dependency.call
                if isinstance(caller, NeedsScope):
                    needed |= {(method, route.path_format): caller.scope for method in route.methods or ()}
    return needed


def _complete(operation: Fragment, *, secured: bool, needed: Scope | None) -> None:
    """Put in what holds for every operation, and take out what FastAPI promises by itself."""
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):  # a path id that is none is a 404
        del answers["422"]
    if secured:
        # OpenAPI 3.1: the roles that are needed
        operation.setdefault("security", [{"bearer": [needed] if needed else []}])
        answers |= {str(status): _problem(status) for status in EVERYWHERE}


def _webhook(kind: WebhookType) -> Fragment:
    """Describe what we send to a callback_url."""
    parameters = [
        {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in WEBHOOK_HEADERS.items()
    ]
    return {
        "summary": WEBHOOK_SUMMARIES[kind],
        "operationId": kind.value.replace(".", "_"),
        "tags": ["webhooks"],
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": REF.format(model="WebhookBody")}}},
        },
        "responses": {
            "2XX": {"description": "Taken; nothing more is sent."},
            "410": {"description": "Not wanted, now and later; nothing more is sent."},
            "default": {"description": "Sent again later."},
        },
    }


def _schemas(catalogue: ActionCatalogue) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for name, schema in (
        ("Submission", catalogue.adapter.json_schema(ref_template=REF)),
        ("StatusDocument", StatusDocument.model_json_schema(mode="serialization", ref_template=REF)),
        ("Problem", Problem.model_json_schema(mode="serialization", ref_template=REF)),
        ("WebhookBody", WebhookBody.model_json_schema(mode="serialization", ref_template=REF)),
    ):
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    document = {"$ref": REF.format(model="StatusDocument")}
    schemas["Accepted"] = {
        "allOf": [
            document,
            {
                "type": "object",
                "required": ["task_token"],
                "properties": {"task_token": {"type": "string", "description": "Opens this task only."}},
            },
        ]
    }
    schemas["LogLine"] = {
        "type": "object",
        "required": ["task_id", "line", "time", "level", "message"],
        "properties": {
            "task_id": {"type": "string", "format": "uuid"},
            "line": {"type": "integer", "minimum": 1, "description": "Rises over all attempts."},
            "time": {"type": "string", "format": "date-time"},
            "level": {"enum": [level.value for level in LogLevel]},
            "message": {"type": "string"},
        },
    }
    schemas["TaskLog"] = {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": {"$ref": REF.format(model="LogLine")}}},
    }
    schemas["TicketOrder"] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["kind"],
        "properties": {
            "kind": {
                "enum": ["ws", "sse"],
                "description": "`ws` opens one WebSocket, once, within 60 s; `sse` event streams, for 15 min.",
            },
            "task_id": {
                "type": "string",
                "format": "uuid",
                "description": "The one task that it opens; without it, a `ws` ticket opens all of the caller's.",
            },
        },
        "if": {"properties": {"kind": {"const": "sse"}}},
        "then": {"required": ["task_id"]},
    }
    schemas["Ticket"] = {
        "type": "object",
        "required": ["ticket", "expires_at"],
        "properties": {
            "ticket": {"type": "string", "description": "For `?ticket=`."},
            "expires_at": {"type": "string", "format": "date-time"},
        },
    }
    schemas["TaskPage"] = {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": document}, "next_cursor": {"type": "string"}},
    }
    return schemas
