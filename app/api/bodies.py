"""Bodies: bounded before they are read, and read strictly.

JSON (RFC 8259) leaves open what to do with a key that comes twice, and Python reads `NaN`; both are refused here, like
nesting that is deep enough to hurt a parser. Only then does the model see the bytes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.domain.action import Action, ActionCatalogue
from app.domain.errors import (
    Malformed,
    NotAcceptable,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
)
from app.domain.problem import FieldError

MAX_DEPTH: Final = 32
MAX_KEYS: Final = 1000
MEDIA_TYPE: Final = re.compile(r'application/json(\s*;\s*charset\s*=\s*("utf-8"|utf-8))?', re.IGNORECASE | re.ASCII)
RANGES: Final = ("application/json", "application/*", "*/*")
"""What may stand in an `Accept` for JSON, the most exact one first."""
STREAM_RANGES: Final = ("text/event-stream", "text/*", "*/*")
REFUSED_WEIGHT: Final = re.compile(r"q=0(\.0{0,3})?")
FRACTION: Final = re.compile(rb"[0-9][.eE]")
STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


async def read_json(request: Request, *, limit: int) -> tuple[bytes, Any]:
    """Return the request's body, as JSON and as JSON values; a whole number is an integer however it is written.

    Args:
        request: A request that should have a JSON body.
        limit: The most bytes that are taken.

    Raises:
        PayloadTooLarge, UnsupportedMediaType, NotAcceptable, Malformed: In this order.
    """
    body = await _bounded(request, limit)
    _require_json_content(request)
    require_json_accepted(request)
    value = parse(body)
    if FRACTION.search(body):
        body = json.dumps(value).encode()
    return body, value


async def _bounded(request: Request, limit: int) -> bytes:
    """Read no more than the limit, whatever Content-Length says."""
    announced = request.headers.get("content-length", "0")
    size = int(announced) if announced.isdecimal() else 0
    body = bytearray()
    if size <= limit:
        async for chunk in request.stream():
            body += chunk
            if (size := len(body)) > limit:
                break
    if size > limit:
        raise PayloadTooLarge(f"At most {limit} bytes are taken.")
    return bytes(body)


def _require_json_content(request: Request) -> None:
    types = request.headers.getlist("content-type")
    if len(types) != 1 or not MEDIA_TYPE.fullmatch(types[0].strip(" \t")):
        raise UnsupportedMediaType
    if "content-encoding" in request.headers:
        raise UnsupportedMediaType("A Content-Encoding is not taken.")


def require_json_accepted(request: Request) -> None:
    """Check that the caller takes a JSON answer (RFC 9110, section 12.5.1).

    Raises:
        NotAcceptable: Its `Accept` names other types only.
    """
    if not _is_accepted(request, RANGES):
        raise NotAcceptable


def require_stream_accepted(request: Request) -> None:
    """Check that the caller takes an event stream, or JSON, which the events are.

    Raises:
        NotAcceptable: Its `Accept` names other types only.
    """
    if not _is_accepted(request, STREAM_RANGES) and not _is_accepted(request, RANGES):
        raise NotAcceptable("Only text/event-stream is served here.")


def _is_accepted(request: Request, ranges: tuple[str, ...]) -> bool:
    accept = ",".join(request.headers.getlist("accept"))
    if not accept.strip():
        return True
    wanted: dict[str, bool] = {}
    for part in accept.split(","):
        media_type, *parameters = (piece.strip(" \t").lower() for piece in part.split(";"))
        wanted[media_type] = not any(REFUSED_WEIGHT.fullmatch(parameter) for parameter in parameters)
    return next((wanted[one] for one in ranges if one in wanted), False)


def parse(body: bytes) -> Any:
    """Parse JSON strictly.

    Raises:
        Malformed: It is empty, not UTF-8, not JSON, too deep, has too many keys or one twice, or a number that is none.
    """
    if not body:
        raise Malformed("The body is empty.")
    structure = STRINGS.sub(b"", body)
    if _depth(structure) > MAX_DEPTH:
        raise Malformed(f"The body is nested deeper than {MAX_DEPTH}.")
    if structure.count(b":") > MAX_KEYS:
        raise Malformed(f"The body has more than {MAX_KEYS} keys.")
    try:
        value = STRICT.decode(body.decode("utf-8"))
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except UnicodeEncodeError as error:
        raise Malformed("The body holds half of a surrogate pair.") from error
    except UnicodeDecodeError as error:
        raise Malformed("The body is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except ValueError as error:  # Python's own limit, 4300 digits
        raise Malformed("The body holds an integer of too many digits.") from error
    return value


def _depth(structure: bytes) -> int:
    """Return how deep brackets are nested, in a body without its strings; or at most how deep, if that is enough."""
    opened = structure.count(b"[") + structure.count(b"{")
    if opened <= MAX_DEPTH:
        return opened
    deepest = depth = 0
    for byte in structure:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("The body has a key twice in one object.")
    return value


def _no_constant(name: str) -> Any:
    raise Malformed(f"The body is not JSON: {name} is no number.")


def _number(text: str) -> float:
    """Read a number with a fraction or an exponent; to JSON Schema `743.0` is an integer, and so it is to us."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Malformed("The body holds a number that is too large.")
    return int(value) if value.is_integer() else value


STRICT: Final = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant, parse_float=_number)


def validated(body: bytes, catalogue: ActionCatalogue) -> Action:
    """Return the action that a body orders.

    Raises:
        ValidationFailed: It is not an action of the catalogue; each field at fault is named.
    """
    try:
        return catalogue.adapter.validate_json(body)
    except ValidationError as error:
        wrong = [_field_error(one, catalogue) for one in error.errors(include_url=False)]
        raise ValidationFailed("The body is not a valid submission.", errors=wrong) from None


Model = TypeVar("Model", bound=BaseModel)


def model_from(body: bytes, model: type[Model]) -> Model:
    """Return what a body says, as a model.

    Raises:
        ValidationFailed: It is not that; each field at fault is named.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        wrong = [
            FieldError(pointer=_pointer(one["loc"]), detail=_sentence(one)) for one in error.errors(include_url=False)
        ]
        raise ValidationFailed("The body is not valid.", errors=wrong) from None


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "Unknown field."
    return f"{error['msg'].removeprefix('Value error, ')}."


def _field_error(error: Mapping[str, Any], catalogue: ActionCatalogue) -> FieldError:
    known = ", ".join(catalogue.names)
    match error["type"]:
        case "union_tag_invalid":
            return FieldError(pointer="#/action", detail=f"Unknown action. Known: {known}.")
        case "union_tag_not_found":
            return FieldError(pointer="#/action", detail=f"An action is required. Known: {known}.")
        case "no_receiver":
            return FieldError(pointer="#/callback_events", detail=f"{error['msg']}.")
        case _:
            return FieldError(pointer=_pointer(error["loc"][1:]), detail=_sentence(error))


def _pointer(location: tuple[str | int, ...]) -> str:
    """Write a JSON Pointer as a URI fragment (RFC 6901, section 6); the location's first part, the action, is gone."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "#" + "".join("/" + quote(part, safe="~!$&'()*+,;=:@") for part in parts)
