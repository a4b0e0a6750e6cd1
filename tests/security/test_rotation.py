"""Encryption keys rotate under messages in flight: the first one seals, all open, and a retired one opens nothing."""

import base64
import secrets
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import yaml
from redis.asyncio import Redis

from app.broker.topology import DELAY_LEVELS, delay_name
from app.store.keys import task_key
from stack.servers import RabbitServer, RedisServer
from tests.support.service import Service, running_service
from tests.support.waiting import wait_until

OLD, NEW = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
BEFORE, DURING, AFTER = {"old": OLD}, {"new": NEW, "old": OLD}, {"new": NEW}


def configure(service: Service, keys: dict[str, str]) -> None:
    """Give the service other keys, for its next start."""
    values: dict[str, Any] = yaml.safe_load(service.config.read_text())
    service.config.write_text(yaml.safe_dump(values | {"encryption_keys": keys}, sort_keys=False))


async def submitted(client: httpx.AsyncClient, **order: Any) -> dict[str, Any]:
    answer = await client.post("/v1/workload", json=order)
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_keys_rotate_under_messages_in_flight(
    scratch_redis_server: RedisServer, redis: Redis, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    async with (
        running_service(scratch_redis_server, rabbit_server, tmp_path, encryption_keys=BEFORE) as service,
        service.client("rotating") as alice,
    ):

        async def sealed_under(task_id: str) -> bytes:
            sealed = await redis.hget(task_key(UUID(task_id)), "envelope")
            assert isinstance(sealed, bytes)
            return sealed[1 : 1 + sealed[0]]

        cancelled = await submitted(alice, action="sleep", seconds=30, delay_seconds=600)
        assert (await alice.post(f"/v1/workload/{cancelled['task_id']}/cancel")).json()["status"] == "CANCELLED"
        running = await submitted(alice, action="sleep", seconds=6, steps=12)

        async def begun() -> bool:
            return bool(await redis.hexists(task_key(UUID(running["task_id"])), "checkpoint"))

        await wait_until(begun, timeout=30, what="a checkpoint")
        service.workers[0].kill()
        waiting = [await submitted(alice, action="noop", id=number) for number in range(3)]
        left_over = await submitted(alice, action="noop", id=4, delay_seconds=600)
        assert await sealed_under(waiting[0]["task_id"]) == b"old"

        # The new key is put first, the old one stays: what is under way goes on, and so do the tokens that are out.
        service.stop()
        configure(service, DURING)
        await service.start_api()
        await service.start_worker()
        for task in (*waiting, running):
            document = await service.ended(alice, task["task_id"], timeout=60)
            assert document["status"] == "COMPLETED"
        assert document["attempt"] == 2  # it went on from its checkpoint, sealed under the old key
        for task in waiting:
            token = {"Authorization": f"Bearer {task['task_token']}"}
            assert (await alice.get(f"/v1/workload/status/{task['task_id']}", headers=token)).status_code == 200
        assert (await alice.post(f"/v1/workload/{cancelled['task_id']}/retry")).status_code == 202
        assert await sealed_under(cancelled["task_id"]) == b"new"  # what is published anew is sealed anew
        fresh = await submitted(alice, action="noop", id=5, delay_seconds=600)
        assert await sealed_under(fresh["task_id"]) == b"new"

        # A worker has the old key no more, too early: what is still sealed under it ends there, and says why.
        service.workers[0].end(patience=15)
        configure(service, AFTER)
        await _bring_forward(service)
        await redis.hdel(task_key(UUID(left_over["task_id"])), "not_before")
        await service.start_worker()
        document = await service.ended(alice, left_over["task_id"], timeout=60)
        assert (document["status"], document["error"]["type"]) == ("FAILED", "/problems/undecryptable")
        # Nothing is lost: where the key is known, the order opens, and is sealed anew.
        assert (await alice.post(f"/v1/workload/{left_over['task_id']}/retry")).status_code == 202
        assert (await service.ended(alice, left_over["task_id"], timeout=60))["status"] == "COMPLETED"


async def _bring_forward(service: Service) -> None:
    """Move what waits in the delay queues into its work queue: what the broker does when the time is over."""
    async with (
        await aio_pika.connect(service.settings.amqp_url.get_secret_value()) as connection,
        connection.channel() as channel,
    ):
        exchange = await channel.get_exchange("longhaul")
        for level in DELAY_LEVELS:
            queue = await channel.get_queue(delay_name(level))
            while (message := await queue.get(fail=False)) is not None:
                await exchange.publish(message, "bench")
                await message.ack()
