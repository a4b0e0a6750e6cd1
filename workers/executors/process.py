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
from workers.executors.proc import resident_bytes
from workers.executors.watch import MIB, Limits
from workers.job import JobContext, Reporter
from workers.outcome import AttemptFailed, Result

BUSY_SECONDS: Final = 0.01
LAST_WORDS_SECONDS: Final = 1.0
CLOSING_SECONDS: Final = 3.0
CANNOT_START: Final = "The job's process could not be started"
LOST: Final = "The job's process was lost: the process that had started it has died."
GROWTH: Final = 0.25
"""Of `max_rss_mb`: by how much a fork server may grow before it is replaced. It should not: 4,000 jobs cost it 12 KiB.
But the hooks that a handler's library has set up for forks run in it, and may leak."""
ASK_SECONDS: Final = 5.0
"""How often the fork server is asked for a sign of life, and how long it is still waited for when it is overdue: should
the whole machine have stood still, the answer comes then."""

log = get_log("executor")


@dataclass(slots=True)
class _Child:
    """One job's process, as far as the fork server has told."""

    ended: asyncio.Future[AttemptFailed]
    """How it died."""
    pid: int | None = None


class ProcessExecutor:
    """The engine's fork server: started with the first job, and again should it die, or have grown."""

    def __init__(self, handler_modules: Sequence[str], limits: Limits) -> None:
        self._modules = handler_modules
        self._limits = limits
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._server: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._size = 0
        """The fork server's, in bytes, after its first job."""
        self._answered = asyncio.Event()
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
                elif not conversation.cancelled():
                    conversation.exception()  # when this is cancelled nobody else asks, and asyncio would complain
            said = None if conversation.cancelled() else conversation.result()
            if said is None:
                raise await ended
            return said

    @contextlib.asynccontextmanager
    async def _child(
        self, title: str
    ) -> AsyncIterator[tuple[int, asyncio.Future[AttemptFailed], asyncio.StreamReader, asyncio.StreamWriter]]:
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
            if self._has_grown():
                await self._replace()
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
                here = contextvars.Context()
                self._reading = asyncio.create_task(self._read(ours), name="fork server", context=here)
            return self._control

    def _has_grown(self) -> bool:
        """Whether the fork server has no job and is much larger than it was."""
        if self._server is None or self._control is None or self._children:
            return False
        size = resident_bytes(self._server.pid)
        self._size = self._size or size
        return size > self._size + GROWTH * self._limits.max_rss_mb * MIB

    async def _replace(self) -> None:
        """End a fork server that has no job."""
        log.warning("the fork server has grown; it is replaced")
        await self.aclose()

    async def _start(self, theirs: socket.socket) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # like the engine itself, it imports nothing from the directory that it happens to be started in
            "-m",
            "workers.executors.fork_server",
            str(theirs.fileno()),
            *self._limits.words(),
            *self._modules,
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is the engine's to answer
        )

    async def _read(self, control: socket.socket) -> None:
        """Hear from the fork server what becomes of the children, until it ends itself."""
        loop = asyncio.get_running_loop()
        asking = asyncio.create_task(self._ask(control), name="fork server's life")
        try:
            with contextlib.suppress(ConnectionResetError):  # it died before it had read all that we said
                while words := await loop.sock_recv(control, MAX_MESSAGE_BYTES):
                    self._hear(**json.loads(words))
        finally:
            asking.cancel()
            self._control = self._server = None
            self._size = 0
            control.close()
        log.error("the fork server has died; its jobs died with it")
        for child in self._children.values():
            if not child.ended.done():
                _kill_group(child.pid)  # the kernel kills the child alone
                child.ended.set_result(AttemptFailed(LOST, where="fork server", kind="worker-lost"))

    async def _ask(self, control: socket.socket) -> None:
        """Kill a fork server that stands still: nobody else watches it, and it watches everybody's jobs."""
        limit, server = self._limits.stall_seconds, self._server
        while limit:
            await asyncio.sleep(ASK_SECONDS)
            self._answered.clear()
            await _send(control, json.dumps({"ask": 1}).encode())
            await _until(self._answered, limit)
            await _until(self._answered, ASK_SECONDS)
            if not self._answered.is_set() and server is not None:
                log.error("the fork server does not answer; it is killed")
                server.kill()
                return

    def _hear(
        self,
        *,
        answer: int = 0,
        job: int = 0,
        pid: int | None = None,
        status: int | None = None,
        kind: str = "",
        detail: str = "",
        refused: str | None = None,
    ) -> None:
        if answer:
            self._answered.set()
        child = self._children.get(job)
        if child is None or child.ended.done():
            return
        if pid is not None:
            child.pid = pid
        elif status is not None:
            death = AttemptFailed(detail, where=f"child process: {kind}", kind=kind) if kind else _obituary(status)
            child.ended.set_result(death)
        else:
            child.ended.set_result(AttemptFailed(f"{CANNOT_START}: {refused}.", where="fork server"))

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
            ended = asyncio.ensure_future(server.wait())
            await asyncio.wait([ended], timeout=CLOSING_SECONDS)
            if not ended.done():
                server.kill()
            await ended


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


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


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


def _obituary(status: int) -> AttemptFailed:
    if status >= 0:
        return AttemptFailed(f"The job's process ended with status {status}, without a result.", where="child process")
    number = signal.Signals(-status)
    # Nothing in a process raises SIGKILL by mistake: whoever sent it was outside.
    kind = "worker-lost" if number is signal.SIGKILL else "handler-error"
    return AttemptFailed(f"The job's process was killed by {number.name}.", where="child process", kind=kind)
