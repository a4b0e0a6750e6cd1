"""No word of a payload lies on a disk: not at the broker, in Redis or in the archive, and in no log, before and after
a restart. What is looked for cannot be compressed, so that no server can have it in another form; and the search finds
what is really there, which is tried each time.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import aio_pika
import httpx
from aio_pika import DeliveryMode, Message
from redis.asyncio import Redis

from tests.faults.conftest import Breakable, Diary, submit
from tests.support.waiting import wait_until


def holding(marker: str, places: Iterable[Path]) -> set[Path]:
    """Return the files, among these and below these directories, in which the marker stands."""
    wanted = marker.encode()
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()]
    assert files
    return {file for file in files if wanted in file.read_bytes()}


class Disks:
    """Where everything that a task touches is kept."""

    def __init__(self, broken: Breakable) -> None:
        service = broken.service
        self.archive = Path(service.settings.archive_url.get_secret_value().removeprefix("sqlite:///"))
        self.redis = broken.redis_server.directory
        self.rabbit = broken.rabbit_server.directory
        self.logs = service.directory

    def hide(self, marker: str) -> bool:
        """Whether the marker stands nowhere."""
        return not holding(marker, [self.redis, self.rabbit, self.archive.parent, self.logs])

    async def show(self, marker: str) -> None:
        """Wait until the marker is found in each place, or the search is worth nothing."""

        async def in_each() -> bool:
            with sqlite3.connect(self.archive) as database:
                database.execute("PRAGMA wal_checkpoint").fetchall()
            archive = [*self.archive.parent.glob("archive.db*")]
            logs = [[self.logs / "api.log"], [self.logs / "worker.log"]]
            return all(holding(marker, places) for places in ([self.redis], [self.rabbit], archive, *logs))

        await wait_until(in_each, timeout=30, what="the control's being found in each place")


async def test_no_word_of_a_payload_lies_on_a_disk_or_in_a_log(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """It lies in a delay queue, in a worker's hands with a checkpoint, among the dead letters, and in the archive."""
    service, disks = broken.service, Disks(broken)
    secret, shown = secrets.token_urlsafe(96), secrets.token_urlsafe(48)
    payload = {"diary": f"{diary.path}-{secret}", "labels": [shown]}
    caller.headers["x-request-id"] = shown  # for the logs; labels are seen by operators, so they are not sealed
    parked = await submit(caller, "hold", what="nothing", delay_seconds=600, **payload)
    running = await submit(caller, "hold", what="wait once", **payload)
    failing = await submit(caller, "blocking_hold", what="fail", max_attempts=1, **payload)
    cancelled = await submit(caller, "hold", what="nothing", delay_seconds=600, **payload)
    assert (await caller.post(f"/v1/workload/{cancelled}/cancel")).json()["status"] == "CANCELLED"
    assert (await service.ended(caller, failing))["status"] == "FAILED"

    async def everything_is_in_its_place() -> bool:
        return "checkpoint" in await broken.task(running) and "dead" in await broken.waiting()

    await wait_until(everything_is_in_its_place, timeout=30, what="the checkpoint and the dead letter")
    async with await aio_pika.connect(broken.rabbit_server.url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange("longhaul")
        await exchange.publish(Message(shown.encode(), delivery_mode=DeliveryMode.PERSISTENT), "dead")
    await disks.show(shown)
    assert disks.hide(secret)

    for worker in service.workers:
        worker.kill()
    for server in (broken.redis_server, broken.rabbit_server):
        server.stop()
        await asyncio.to_thread(server.start)
    async with Redis.from_url(broken.redis_server.url) as client:
        await client.bgrewriteaof()  # what Redis holds is written once more, as a whole

        async def rewritten() -> bool:
            return not (await client.info("persistence"))["aof_rewrite_in_progress"]

        await wait_until(rewritten, timeout=30, what="the rewriting")
    await broken.mend()
    await disks.show(shown)
    assert disks.hide(secret)

    assert (await service.ended(caller, running, timeout=60))["status"] == "COMPLETED"  # it was there all the time

    async def cancelled_too() -> bool:
        return (await caller.post(f"/v1/workload/{parked}/cancel")).status_code == 202

    await wait_until(cancelled_too, timeout=30, what="the cancelling of what is parked")
    for queue in await broken.waiting():
        await broken.take(queue)
