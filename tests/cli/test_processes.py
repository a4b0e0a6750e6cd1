"""`longhaul serve --processes`: several processes behind one port, of which any may die."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.processes import runs
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

COUNT = 2


@pytest.fixture
async def service(redis_server: RedisServer, rabbit_server: RabbitServer, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that has an API in several processes."""
    async with running_service(redis_server, rabbit_server, tmp_path, workers=0) as running:
        running.apis.pop().end(patience=15)
        await running.start_api("--processes", str(COUNT))
        yield running


def children(parent: Process) -> set[int]:
    """Return the processes that a process has started."""
    return {int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()}


async def test_a_killed_process_is_missed_by_nobody_and_replaced(service: Service) -> None:
    [keeper] = service.apis
    first = children(keeper)
    assert len(first) == COUNT
    async with service.client() as alice:
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        for number in range(20):
            answer = await alice.post("/v1/workload", json={"action": "noop", "id": number})
            assert answer.status_code == 202

        async def replaced() -> bool:
            now = children(keeper)
            return len(now) == COUNT and killed not in now

        await wait_until(replaced, what="another process")
    assert f"an API process was killed; another one is started pid={killed}" in service.api_log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_all_end_with_the_one_that_keeps_them(service: Service, number: signal.Signals) -> None:
    [keeper] = service.apis
    pids = children(keeper)
    os.kill(keeper.pid, number)

    async def gone() -> bool:
        return not keeper.is_running and not any(runs(pid) for pid in pids)

    await wait_until(gone, what="their end")
    assert "an API process was killed" not in service.api_log


def test_one_that_gives_up_ends_all(tmp_path: Path) -> None:
    """As it would alone: whoever keeps the service decides what then."""
    program = """
        import os, signal, socket, sys
        from app.api.processes import Processes

        def serve(_):
            try:
                os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                signal.pause()
            return 7

        sys.exit(Processes(serve, socket.create_server(("127.0.0.1", 0))).run(3))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "the first")]
    assert subprocess.run(command, timeout=60, check=False).returncode == 7
