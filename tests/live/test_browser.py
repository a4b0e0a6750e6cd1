"""A browser: its EventSource follows a task with a ticket, and stops for good after the end; so does its WebSocket."""

import json
import re
from pathlib import Path

import httpx

from tests.api.test_tickets import ticket_of
from tests.live.chromium import browser_page
from tests.live.conftest import Cluster
from tests.live.test_processes import submitted
from tests.support.waiting import wait_until

FOLLOW = """
window.seen = []; window.socketSeen = []; window.codes = [];
window.source = new EventSource(%(events)s);
source.addEventListener('status', event => seen.push(JSON.parse(event.data)));
window.socket = new WebSocket(%(socket)s, ['longhaul.v1', 'bearer.' + %(token)s]);
socket.onmessage = event => socketSeen.push(JSON.parse(event.data));
socket.onclose = event => codes.push(event.code);
window.ticketSocket = new WebSocket(%(ticket_socket)s);
ticketSocket.onclose = event => codes.push(event.code);
"""


async def test_a_browser_follows_a_task_and_stops_after_its_end(
    cluster: Cluster, alice: httpx.AsyncClient, subject: str, tmp_path: Path
) -> None:
    task_id, token = await submitted(alice, action="sleep", seconds=2, steps=4), cluster.service.token(subject)
    sse, ws = await ticket_of(alice, kind="sse", task_id=task_id), await ticket_of(alice, kind="ws", task_id=task_id)
    where = f"{cluster.front.url.replace('http', 'ws', 1)}/v1/workload/{task_id}/ws"
    texts = {
        "events": f"/v1/workload/{task_id}/events?ticket={sse}",
        "socket": where,
        "ticket_socket": f"{where}?ticket={ws}",
        "token": token,
    }
    async with browser_page(tmp_path) as page:
        await page.open(f"{cluster.front.url}/problems")
        await page.run(f"{FOLLOW % {name: json.dumps(text) for name, text in texts.items()}}; 1")

        async def stopped() -> bool:
            return bool(await page.run("source.readyState === EventSource.CLOSED && codes.length === 2"))

        await wait_until(stopped, timeout=40, what="the end of the browser's streams")
        seen = await page.run("seen")
        assert seen[-1]["status"] == "COMPLETED"
        assert await page.run("codes") == [1000, 1000]
        assert (await page.run("socketSeen"))[-1]["task"] == seen[-1]
        assert await page.run("socket.protocol") == "longhaul.v1"
        seqs = [one["seq"] for one in seen]
        assert seqs == sorted(set(seqs))
    # It came once for the events and once more to be told to stop; it would come again 3 s after that.
    log = (cluster.front.logs / "nginx-access.log").read_text()
    assert [int(code) for code in re.findall(rf"{task_id}/events\" (\d+)", log)] == [200, 204]
    for written in [*cluster.front.logs.rglob("*.log"), *cluster.service.directory.glob("api*.log")]:
        assert sse not in written.read_text()
        assert ws not in written.read_text()
