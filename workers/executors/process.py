"""Runs `def` handlers, each in a process of its own that can be killed: the engine's side of the fork server."""

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from app.domain.action import Action
from app.domain.errors import LeaseLost
from app.observability.logging import get_log
from workers.executors import pipe
from workers.executors.fork_server import MAX_MESSAGE_BYTES
from workers.job import JobContext, Reporter
from workers.outcome import AttemptFailed, Result

log = get_log("executor")


class ProcessExecutor:
    """The engine's fork server: started with the first job, and again should it die."""

    def __init__(self, handler_modules: Sequence[str]) -> None:
        self._modules = handler_modules
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._server: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ends: dict[int, asyncio.Future[int]] = {}

    async def run(self, context: JobContext, params: Action, reporter: Reporter) -> Result:
        """Run a handler in a child process and return what it made. Cancelling this kills the child, and waits for it.

        Raises:
            AttemptFailed: The handler raised, or its process died.
            LeaseLost: As the handler met it.
        """
        action = params.action_name
        async with self._child(f"longhaul: {action} {context.task_id}") as (job, reader, writer):
            writer.write(pipe.order(action, params.params, context))
            conversation = asyncio.ensure_future(_converse(reader, writer, reporter))
            ended = self._ends[job]
            try:
                both: list[asyncio.Future[Any]] = [conversation, ended]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not conversation.done():
                    # It has ended; what it said before that is still in the pipe. A grandchild may hold the pipe open.
                    await asyncio.wait([conversation], timeout=1)
            finally:
                if not conversation.done():
                    conversation.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await conversation
            said = None if conversation.cancelled() else conversation.result()
            if said is None:
                raise AttemptFailed(_obituary(await ended), where="child process")
            return said

    @contextlib.asynccontextmanager
    async def _child(self, title: str) -> AsyncIterator[tuple[int, asyncio.StreamReader, asyncio.StreamWriter]]:
        """A child and the pipe to it; when the block is left, the child is gone."""
        control = await self._started()
        job = next(self._numbers)
        ended = self._ends[job] = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            message = json.dumps({"job": job, "title": title}).encode()
            socket.send_fds(control, [message], [theirs.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours, limit=pipe.MAX_LINE_BYTES)
        try:
            yield job, reader, writer
        finally:
            writer.close()
            if not ended.done():
                with contextlib.suppress(OSError):
                    control.send(json.dumps({"kill": job}).encode())
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ended)
            self._ends.pop(job, None)

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._server = await asyncio.create_subprocess_exec(
                        sys.executable,
                        "-m",
                        "workers.executors.fork_server",
                        str(theirs.fileno()),
                        *self._modules,
                        pass_fds=[theirs.fileno()],
                        stdin=asyncio.subprocess.DEVNULL,
                        start_new_session=True,  # a Ctrl-C is the engine's to answer
                    )
                ours.setblocking(False)
                self._control = ours
                self._reading = asyncio.create_task(self._read(ours), name="fork server")
            return self._control

    async def _read(self, control: socket.socket) -> None:
        """Hear from the fork server which children have ended, until it ends itself."""
        loop = asyncio.get_running_loop()
        while words := await loop.sock_recv(control, MAX_MESSAGE_BYTES):
            message = json.loads(words)
            ended = self._ends.get(message["job"])
            if "status" in message and ended is not None and not ended.done():
                ended.set_result(message["status"])
        log.error("the fork server has died; its jobs died with it")
        self._control = None
        control.close()
        for ended in self._ends.values():
            if not ended.done():
                ended.set_result(-signal.SIGKILL)

    async def aclose(self) -> None:
        """End the fork server, and whatever it has started."""
        if self._reading is not None:
            self._reading.cancel()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            await self._server.wait()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reporter: Reporter) -> Result | None:
    """Take the child's reports and answer them, until it says how it ended; None if it never does."""
    with contextlib.suppress(ConnectionError):
        while words := await reader.readline():
            message = json.loads(words)
            match message["kind"]:
                case pipe.PROGRESS:
                    reporter.progress(message["percent"], message["message"])
                case pipe.FINISHED:
                    return pipe.result_from(message["result"])
                case pipe.FAILED:
                    raise AttemptFailed(message["detail"], where=message["where"])
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
    except LeaseLost:
        return pipe.line(error=pipe.LEASE_LOST)
    except (ValueError, OSError) as error:
        return pipe.line(error=str(error))


def _obituary(status: int) -> str:
    if status < 0:
        return f"The job's process was killed by {signal.Signals(-status).name}."
    return f"The job's process ended with status {status}, without a result."
