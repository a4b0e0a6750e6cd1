"""A task as an HTTP answer: the status document, its validators, and its headers."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from app.domain.task import Task, document_of
from app.domain.webhook import WebhookSummary

RETRY_AFTER_SECONDS: Final = 5
WRITTEN: Final = 256
"""How many documents are kept as text."""
CACHE_HEADERS: Final = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Prefer"}


class Documents:
    """Status documents as text, each written once for all readers who are sent the same state."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url
        self._written: OrderedDict[int, tuple[Task, str]] = OrderedDict()

    def text(self, task: Task, *, webhook: WebhookSummary | None = None) -> str:
        """Return the document of this very object; one with a webhook's summary is written anew each time."""
        known = self._written.get(id(task))
        if known is not None and webhook is None:  # the object is kept with its text: nothing else can have its id
            return known[1]
        text = to_json(document_of(task, public_url=self._public_url, webhook=webhook)).decode()
        if webhook is not None:
            return text
        self._written[id(task)] = (task, text)
        if len(self._written) > WRITTEN:
            self._written.popitem(last=False)
        return text


class JsonAnswer(Response):
    """An answer with a body of JSON. starlette would write the names of its header fields anew each time."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """See starlette."""
        fields = [(_field_name(name), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self.raw_headers = [*fields, (b"content-length", b"%d" % len(self.body)), _JSON]


_JSON: Final = (b"content-type", b"application/json")


@lru_cache(128)
def _field_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


def document_with_token(task: Task, task_token: str, *, public_url: str) -> bytes:
    """Return the status document with a task token, as JSON."""
    return to_json(document_of(task, public_url=public_url) | {"task_token": task_token})


def json_response(value: Any, status: int = 200, *, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return JsonAnswer(body, status, headers=headers)


def model_response(model: BaseModel, status: int = 200, *, headers: dict[str, str] | None = None) -> Response:
    """Return a model as a JSON answer; absent values are left out."""
    return json_response(model.model_dump(mode="json", exclude_none=True), status, headers=headers)


def etag_of(task: Task) -> str:
    """Return the entity tag of a task's document."""
    return f'W/"{task.seq}"'


def status_response(
    request: Request,
    task: Task,
    *,
    documents: Documents,
    webhook: WebhookSummary | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a task's document, or 304 if the caller has it already (RFC 9110, section 13.1.2)."""
    etag = etag_of(task)
    headers = {"ETag": etag, **CACHE_HEADERS, **(headers or {})}
    if not task.status.is_terminal:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return JsonAnswer(documents.text(task, webhook=webhook), headers=headers)


def matches(values: list[str], etag: str) -> bool:
    """Whether an If-None-Match names this entity tag, by weak comparison; `*` names every one."""
    named = [tag.strip() for value in values for tag in value.split(",")]
    return "*" in named or etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in named)
