"""The AsyncAPI document: what comes over WebSockets and event streams, in the schemas of the OpenAPI document."""

import re
from typing import Any, Final

Fragment = dict[str, Any]

REFERENCE: Final = "#/components/schemas/"
TASK_ID: Final[Fragment] = {"task_id": {"description": "The task's id, a UUID."}}
CLOSE_CODES: Final = (
    "Closes: 1000 after the terminal state, 1009 for a message over 4 KiB, 1012 restart, 1013 overloaded, 4401 no "
    "valid token, 4403 the page's origin or the token's scope, 4404 no such task. What is sent to the server is "
    "ignored."
)
SOCKET_MESSAGES: Final = ("status", "log", "ping")
STREAM_MESSAGES: Final = ("statusEvent", "logEvent")


def asyncapi(openapi: Fragment) -> Fragment:
    """Return the AsyncAPI 3.0 document of the same application.

    Args:
        openapi: Its OpenAPI document, whose schemas are taken.
    """
    known = openapi["components"]["schemas"]
    channels = {
        "task": _channel("/v1/workload/{task_id}/ws", f"One task, by WebSocket. {CLOSE_CODES}", SOCKET_MESSAGES),
        "everything": _channel(
            "/v1/workload/ws",
            f"All of the caller's tasks, by WebSocket: first the 200 newest living ones. {CLOSE_CODES}",
            SOCKET_MESSAGES,
        ),
        "events": _channel(
            "/v1/workload/{task_id}/events",
            "One task, as server-sent events: `id` is `<seq>.<log line>`, `event` the message's name, `data` its "
            "payload. The stream ends after the terminal document; who comes again after it is answered 204.",
            STREAM_MESSAGES,
        ),
    }
    messages = _messages()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": openapi["info"]["title"], "version": openapi["info"]["version"]},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            f"follow{name.title()}": {"action": "send", "channel": {"$ref": f"#/channels/{name}"}} for name in channels
        },
        "components": {"messages": messages, "schemas": _used(messages, known)},
    }


def _channel(address: str, description: str, messages: tuple[str, ...]) -> Fragment:
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        **({"parameters": TASK_ID} if "{task_id}" in address else {}),
    }


def _messages() -> dict[str, Fragment]:
    document, line = {"$ref": f"{REFERENCE}StatusDocument"}, {"$ref": f"{REFERENCE}LogLine"}
    time = {"type": "string", "format": "date-time"}
    return {
        "status": _message("A task's newest state.", _typed("status", task=document)),
        "log": _message("A line of a task's log.", {"allOf": [line, _typed("log")]}),
        "ping": _message("Each 15 s: the connection is alive.", _typed("ping", time=time)),
        "statusEvent": _message("A task's newest state.", document, name="status"),
        "logEvent": _message("A line of a task's log.", line, name="log"),
    }


def _message(summary: str, payload: Fragment, *, name: str = "") -> Fragment:
    return {"summary": summary, "payload": payload, **({"name": name} if name else {})}


def _typed(kind: str, **properties: Fragment) -> Fragment:
    return {
        "type": "object",
        "required": ["type", *properties],
        "properties": {"type": {"const": kind}, **properties},
    }


def _used(value: Any, known: dict[str, Fragment]) -> dict[str, Fragment]:
    """Return the schemas that something refers to, and those that they refer to."""
    used: dict[str, Fragment] = {}
    names = set(re.findall(rf"{REFERENCE}(\w+)", str(value)))
    while names:
        used |= {name: known[name] for name in names}
        names = set(re.findall(rf"{REFERENCE}(\w+)", str(used))) - used.keys()
    return used
