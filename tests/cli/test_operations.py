"""`longhaul admin queues`, `workers`, `stalled`, `pause` and `resume`, against the true service."""

import asyncio
import json
import sys
from typing import Any

from tests.support.service import BIN, Service


async def shown(service: Service, *words: str) -> str:
    command = [str(BIN / "longhaul"), "admin", *words, "--config", str(service.config)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_operators_see_in_a_shell_what_the_dashboard_shows(service: Service) -> None:
    queues, workers, table, stalled = await asyncio.gather(
        shown(service, "queues", "--json"),
        shown(service, "workers", "--json"),
        shown(service, "workers"),
        shown(service, "stalled", "--json"),
    )
    named = {queue["name"]: queue for queue in map(json.loads, queues.splitlines())}
    assert named.keys() == {"report_gen", "transform", "bench"}
    assert named["bench"]["consumers"] == 1
    (worker,) = [json.loads(line) for line in workers.splitlines()]
    assert worker["pid"] == service.workers[0].pid
    assert table.splitlines()[0].split() == ["worker", "version", "mib", "report_gen", "transform", "bench"]
    found: list[dict[str, Any]] = [json.loads(line) for line in stalled.splitlines()]
    assert all(task["reason"] in ("lease-expired", "message-lost") for task in found)


async def test_operators_pause_and_resume_a_queue_in_a_shell(service: Service) -> None:
    async def reason() -> str | None:
        queues = [json.loads(line) for line in (await shown(service, "queues", "--json")).splitlines()]
        pause = next(queue["paused"] for queue in queues if queue["name"] == "report_gen")
        return pause and str(pause["reason"])

    await shown(service, "pause", "report_gen", "--why", "tried in a shell")
    assert await reason() == "tried in a shell"
    await shown(service, "resume", "report_gen", "--why", "tried")
    assert await reason() is None
