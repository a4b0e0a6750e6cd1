"""Runs `def` handlers, each in a process of its own that can be killed: the engine's side of the fork server."""

import asyncio
import contextlib
import contextvars
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.domain.action import Action
from app.domain.errors import LeaseLost
from app.observability.logging import get_log
from workers.executors import pipe
from workers.executors.fork_server import MAX_MESSAGE_BYTES
from workers.job import JobContext, Reporter
from workers.outcome import AttemptFailed, Result

BUSY_SECONDS: Final = 0.01
LAST_WORDS_SECONDS: Final = 1.0
CANNOT_START: Final = "The job's process could not be started"
LOST: Final = "The job's process was lost: the process that had started it has died."

log = get_log("executor")


@dataclass(slots=True)
class _Child:
    """One job's process, as far as the fork server has told."""

    ended: asyncio.Future[str]
    """How it died, in a sentence."""
    pid: int | None = None


class ProcessExecutor:
    """The engine's fork server: started with the first job, and again should it die."""

    def __init__(self, handler_modules: Sequence[str]) -> None:
        self._modules = handler_modules
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._server: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._children: dict[int, _Child] = {}

    async def run(
        self, context: JobContext, params: Action, reporter: Reporter, asked_to_stop: asyncio.Event
    ) -> Result:
        """Run a handler in a child process and return what it made. Cancelling this kills the child, and waits for it.

        When `asked_to_stop` is set, the child gets a SIGTERM; a handler may catch it, to end in its own way.

        When this returns or raises, the child is gone, and so is whatever it had started.

        Raises:
            AttemptFailed: The handler raised, or its process died or could not be started.
            LeaseLost: As the handler met it.
        """
        action = params.action_name
        async with self._child(f"longhaul: {action} {context.task_id}") as (job, ended, reader, writer):
            asking = asyncio.create_task(self._ask_to_stop(job, asked_to_stop), name="ask to stop")
            writer.write(pipe.order(action, params.params, context))
            conversation = asyncio.ensure_future(_converse(reader, writer, reporter))
            try:
                both: list[asyncio.Future[Any]] = [conversation, ended]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not conversation.done():
                    # It has ended; what it said before that is still in the pipe.
                    await asyncio.wait([conversation], timeout=LAST_WORDS_SECONDS)
            finally:
                asking.cancel()
                if not conversation.done():
                    conversation.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await conversation
            said = None if conversation.cancelled() else conversation.result()
            if said is None:
                raise AttemptFailed(await ended, where="child process")
            return said

    @contextlib.asynccontextmanager
    async def _child(
        self, title: str
    ) -> AsyncIterator[tuple[int, asyncio.Future[str], asyncio.StreamReader, asyncio.StreamWriter]]:
        """A child's number, its end, and the pipe to it; when the block is left, the child is gone."""
        control = await self._started()
        job = next(self._numbers)
        child = self._children[job] = _Child(asyncio.get_running_loop().create_future())
        try:
            reader, writer = await _forked(control, job, title)
            try:
                yield job, child.ended, reader, writer
            finally:
                writer.close()
        finally:
            if not child.ended.done():
                with contextlib.suppress(OSError):  # it has died, and will be told so
                    await _send(control, json.dumps({"kill": job}).encode())
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(child.ended)
            del self._children[job]

    async def _ask_to_stop(self, job: int, asked_to_stop: asyncio.Event) -> None:
        await asked_to_stop.wait()
        if self._control is not None:
            await _send(self._control, json.dumps({"term": job}).encode())

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                try:
                    with theirs:
                        self._server = await self._start(theirs)
                except OSError as error:
                    raise AttemptFailed(f"{CANNOT_START}.", where=f"fork server: {error}") from error
                finally:
                    if self._server is None:
                        ours.close()
                ours.setblocking(False)
                self._control = ours
                # In a context of its own: it does not speak for the job that happened to come first.
                self._reading = asyncio.create_task(self._read(ours), name="fork server", context=contextvars.Context())
            return self._control

    async def _start(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # like the engine itself, it imports nothing from the directory that it happens to be started in
            "-m",
            "workers.executors.fork_server",
            str(theirs.fileno()),
            *self._modules,
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is the engine's to answer
        )

    async def _read(self, control: socket.socket) -> None:
        """Hear from the fork server what becomes of the children, until it ends itself."""
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(ConnectionResetError):  # it died before it had read all that we said
                while words := await loop.sock_recv(control, MAX_MESSAGE_BYTES):
                    self._hear(**json.loads(words))
        finally:
            self._control = self._server = None
            control.close()
        log.error("the fork server has died; its jobs died with it")
        for child in self._children.values():
            if not child.ended.done():
                _kill_group(child.pid)  # the kernel kills the child alone
                child.ended.set_result(LOST)

    def _hear(self, *, job: int, pid: int | None = None, status: int | None = None, refused: str | None = None) -> None:
        child = self._children.get(job)
        if child is None or child.ended.done():
            return
        if pid is not None:
            child.pid = pid
        elif status is not None:
            child.ended.set_result(_obituary(status))
        else:
            child.ended.set_result(f"{CANNOT_START}: {refused}.")

    async def aclose(self) -> None:
        """End the fork server, and whatever it has started; calls of `run` are cancelled."""
        server = self._server
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        for child in self._children.values():
            child.ended.cancel()
        if server is not None:
            await server.wait()


async def _forked(control: socket.socket, job: int, title: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Have a child forked, and return the pipe to it."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            await _send(control, json.dumps({"job": job, "title": title}).encode(), theirs)
        return await asyncio.open_connection(sock=ours, limit=pipe.MAX_LINE_BYTES)
    except OSError as error:
        ours.close()
        raise AttemptFailed(f"{CANNOT_START}.", where=f"fork server: {error}") from error
    except asyncio.CancelledError:
        ours.close()
        raise


async def _send(control: socket.socket, words: bytes, *passed: socket.socket) -> None:
    while True:
        try:
            socket.send_fds(control, [words], [one.fileno() for one in passed])
        except BlockingIOError:  # some 250 words wait already: it is starting, or forks as fast as it can
            await asyncio.sleep(BUSY_SECONDS)
        else:
            return


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reporter: Reporter) -> Result | None:
    """Take the child's reports and answer them, until it says how it ended; None if it never does."""
    with contextlib.suppress(ConnectionError):
        while words := await reader.readline():
            message = json.loads(words)
            match message["kind"]:
                case pipe.PROGRESS:
                    reporter.progress(message["percent"], message["message"])
                case pipe.LOG:
                    reporter.log(pipe.log_from(message["lines"]))
                case pipe.FINISHED:
                    return pipe.result_from(message["result"])
                case pipe.FAILED:
                    raise pipe.failure_from(message)
                case pipe.LEASE_LOST:
                    raise LeaseLost(message["detail"])
                case _:
                    writer.write(await _answer(message, reporter))
    return None


async def _answer(message: dict[str, Any], reporter: Reporter) -> bytes:
    try:
        if message["kind"] == pipe.COMMIT:
            await reporter.commit(message["checkpoint"])
            return pipe.line()
        result = await reporter.save(Path(message["path"]), message["content_type"], message["filename"])
        return pipe.line(result=pipe.result_fields(result))
    except pipe.ANSWERED_ERRORS as error:
        return pipe.line(**pipe.error_fields(error))


def _kill_group(leader: int | None) -> None:
    if leader is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def _obituary(status: int) -> str:
    if status < 0:
        return f"The job's process was killed by {signal.Signals(-status).name}."
    return f"The job's process ended with status {status}, without a result."
