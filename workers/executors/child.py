"""The inside of a job's process: run one `def` handler, report over the pipe, and end."""

import contextlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final, cast

from app.domain.action import ActionCatalogue
from app.domain.errors import LeaseLost, LonghaulError
from app.domain.log_line import LogLevel, LogRecord
from workers.executors import pipe
from workers.job import BlockingJob, checkpoint_bytes, log_records
from workers.outcome import Result, failure, result_of
from workers.registry import BlockingHandler, Registry

REPORT_SECONDS: Final = 0.05
"""A report waits for the next one if the last was sent more recently; the last one before a pause is never kept back
for longer than until the next word over the pipe."""
LINES_PER_SECOND: Final = 500
"""Of the log; the engine writes fewer, and must not be kept busy by one job's chatter."""


class PipeReporter:
    """The child's end of the pipe."""

    def __init__(self, connection: socket.socket) -> None:
        self._out = connection
        self._in = connection.makefile("rb")
        self._waiting: tuple[int, str | None] | None = None
        self._sent_at = 0.0
        self._second_began = 0.0
        self._lines_said = 0
        self._left_out = 0

    def order(self) -> dict[str, Any]:
        """Read the order."""
        return self._read()

    def progress(self, percent: int, message: str | None) -> None:
        last_message = self._waiting[1] if self._waiting else None
        self._waiting = percent, message if message is not None else last_message
        if time.monotonic() - self._sent_at >= REPORT_SECONDS:
            self._send_waiting()

    def log(self, records: list[LogRecord]) -> None:
        now = time.monotonic()
        if now - self._second_began >= 1:
            self._second_began, self._lines_said = now, 0
        for record in records:
            if self._lines_said >= LINES_PER_SECOND:
                self._left_out += 1
                continue
            self._say_left_out()
            self._lines_said += 1
            self._say(kind=pipe.LOG, lines=pipe.log_fields([record]))

    def _say_left_out(self) -> None:
        if self._left_out:
            notice = log_records(f"({self._left_out} lines were left out)", LogLevel.WARNING)
            self._left_out = 0
            self._say(kind=pipe.LOG, lines=pipe.log_fields(notice))

    def commit(self, checkpoint: Any) -> None:
        checkpoint_bytes(checkpoint)  # refused here, in the handler, before it meets the pipe
        self._ask(kind=pipe.COMMIT, checkpoint=checkpoint)

    def save(self, path: Path, content_type: str | None, filename: str | None) -> Result:
        answer = self._ask(kind=pipe.SAVE, path=str(path.absolute()), content_type=content_type, filename=filename)
        return pipe.result_from(answer["result"])

    def finished(self, result: Result) -> None:
        """Say that the work is done."""
        self._send_waiting()
        self._say_left_out()
        self._say(kind=pipe.FINISHED, result=pipe.result_fields(result))

    def failed(self, error: LonghaulError) -> None:
        """Say that the work has failed, or that it has stopped since the lease is lost."""
        self._say_left_out()
        if isinstance(error, LeaseLost):
            self._say(kind=pipe.LEASE_LOST, detail=error.detail)
        else:
            self._say(kind=pipe.FAILED, **pipe.failure_fields(error))

    def _ask(self, **fields: Any) -> dict[str, Any]:
        self._send_waiting()
        self._say(**fields)
        answer = self._read()
        if "error" in answer:
            raise pipe.error_from(answer)
        return answer

    def _say(self, **fields: Any) -> None:
        words = pipe.line(**fields)
        if len(words) > pipe.MAX_LINE_BYTES:
            raise ValueError(f"this is too much to be told at once: {len(words)} bytes")
        self._out.sendall(words)

    def _send_waiting(self) -> None:
        if self._waiting is not None:
            percent, message = self._waiting
            self._waiting = None
            self._say(kind=pipe.PROGRESS, percent=percent, message=message)
            self._sent_at = time.monotonic()

    def _read(self) -> dict[str, Any]:
        words = self._in.readline()
        if not words:
            raise LeaseLost("The engine is gone.")
        return cast("dict[str, Any]", json.loads(words))


def run_job(connection: socket.socket, registry: Registry) -> None:
    """Read an order from the pipe, do it, and report its end. Never raises: what happens goes over the pipe."""
    reporter = PipeReporter(connection)
    try:
        order = reporter.order()
        handler = registry.handlers[order["action"]]
        context = pipe.context_of(order)
        catalogue = ActionCatalogue([handler.action], dataset_ids=context.datasets.keys() or [0])
        params = catalogue.adapter.validate_json(json.dumps({"action": order["action"], **order["params"]}))
        function = cast("BlockingHandler", handler.function)
        result = result_of(function(BlockingJob(context, reporter), params))
    except Exception as error:  # noqa: BLE001  # a handler may raise anything
        _flush()
        reporter.failed(failure(error))
    else:
        _flush()
        reporter.finished(result)


def _flush() -> None:
    """Let out what the handler has printed: once its end is told, the engine does not wait for this process."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the handler may have closed it
            stream.flush()
