"""Logging: one line per event, to standard output, as text or JSON.

An event is a constant phrase plus fields; `request_id` and `task_id` are bound once at the edge and stand on every line
of that context. No payload, token or key is ever logged. Text is `[LEVEL] sentence key=value …`.
"""

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pydantic_core import to_json

from app.domain.task import rfc3339
from app.imports import without_colour
from app.settings import LogSettings

with without_colour():
    import structlog

Log = structlog.typing.FilteringBoundLogger
Event = MutableMapping[str, Any]

# One variable for all fields: structlog's own makes one for each, and looks through all of a context for each line.
_bound: ContextVar[Mapping[str, Any]] = ContextVar("log fields", default=MappingProxyType({}))


def configure_logging(settings: LogSettings, *, stream: Any = None) -> None:
    """Set up this process's logging, libraries' own lines included.

    Args:
        settings: Level and format.
        stream: Where lines go; standard output when omitted.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    line = _lines(_json_line if settings.format == "json" else _text_line)
    out = stream or sys.stdout
    structlog.configure(
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; what they say below WARNING is of no use to an operator.
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, line],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # Connections come and go; our own lines tell it once. aiormq would add a traceback for each.
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def unbind() -> None:
    """Forget all fields that were bound in this context."""
    _bound.set({})


def get_log(name: str) -> Log:
    """Return the logger of a module; `name` says which part of the program speaks."""
    log: Log = structlog.get_logger(part=name)
    return log


def bind(**fields: Any) -> None:
    """Put fields on every line that this context logs from now on."""
    _bound.set({**_bound.get(), **{name: value for name, value in fields.items() if value is not None}})


def _lines(render: Callable[[Event], str]) -> structlog.typing.Processor:
    """Return what makes a line of an event: all in one, since each step of a chain costs as much as its work."""

    def line(logger: Any, level: str, event: Event) -> str:
        event = {**event, **_bound.get(), **event}
        event["level"] = level
        if "exc_info" in event:
            structlog.processors.format_exc_info(logger, level, event)
        return render(event)

    return line


def _json_line(event: Event) -> str:
    event["time"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return to_json(event, fallback=repr).decode()


def _text_line(event: Event) -> str:
    level, sentence = str(event.pop("level")).upper(), event.pop("event")
    event.pop("part", None)
    trace = event.pop("exception", None)
    fields = "".join(f" {key}={_text_value(value)}" for key, value in event.items())
    return f"[{level}] {sentence}{fields}" + (f" exception={trace!r}" if trace else "")


def _text_value(value: Any) -> str:
    if hasattr(value, "tzinfo"):
        return rfc3339(value)
    text = str(value)
    return repr(text) if " " in text or "\n" in text or not text.isprintable() else text
