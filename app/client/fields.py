"""The fields of a submission as people write them: `id=1024 every=1d`, or a JSON object."""

import json
import math
from collections.abc import Sequence
from typing import Any


def parse_fields(pairs: Sequence[str], body: str | None = None) -> dict[str, Any]:
    """Put the fields of a submission together.

    Args:
        pairs: `key=value` each; see `parse_value`.
        body: More of them, as a JSON object (RFC 8259).

    Raises:
        ValueError: A pair is none, the body is no object, or a field is given twice. Says which.
    """
    fields = _parse_object(body) if body is not None else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"{pair!r} is not of the form key=value")
        _put(fields, key, parse_value(value))
    return fields


def parse_value(text: str) -> Any:
    """Read a value as JSON if it is JSON, else as the string that it is.

    `1024` is a number, `true` a boolean, `[1, 2]` an array; `1d`, `NaN`, `1e999` and the empty text are strings. A
    string that looks like JSON is written as JSON: `'"1024"'`.
    """
    try:
        return _load(text)
    except ValueError:
        return text


def _parse_object(body: str) -> dict[str, Any]:
    try:
        fields = _load(body)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  # the user's mistake, not the program's
    return fields


def _load(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        _put(fields, key, value)
    return fields


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    # The last one would win silently, and the service refuses such a body as well.
    if key in fields:
        raise ValueError(f"{key} is given twice")
    fields[key] = value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large a number")
    return number
