"""Logging: one line per event, to standard output, as text or JSON.

An event is a constant phrase plus fields; `request_id` and `task_id` are bound once at the edge and stand on every line
of that context. No payload, token or key is ever logged. Text is `[LEVEL] sentence key=value …`.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from app.domain.task import rfc3339
from app.settings import LogSettings

Log = structlog.typing.FilteringBoundLogger


def configure_logging(settings: LogSettings, *, stream: Any = None) -> None:
    """Set up this process's logging, libraries' own lines included.

    Args:
        settings: Level and format.
        stream: Where lines go; standard output when omitted.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.TimeStamper(fmt="iso", key="time"), structlog.processors.JSONRenderer()]
        if settings.format == "json"
        else [_text_line]
    )
    out = stream or sys.stdout
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; what they say below WARNING is of no use to an operator.
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # Connections come and go; our own lines tell it once. aiormq would add a traceback for each.
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def get_log(name: str) -> Log:
    """Return the logger of a module; `name` says which part of the program speaks."""
    log: Log = structlog.get_logger(part=name)
    return log


def bind(**fields: Any) -> None:
    """Put fields on every line that this context logs from now on."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in fields.items() if value is not None})


def _text_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
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
