"""Dump: what the stores hold in the end, written down as an operator sees it: the last of the evidence."""

import hashlib
import json
from typing import Any, Final
from uuid import UUID

from app.broker.topology import BIRTH_QUEUE, DEAD_QUEUE
from app.store.keys import SHARDS, TASK_PATTERN, live_key
from tests.chaos.journal import Journal
from tests.chaos.stage import Stage

HASH_FIELDS: Final = ("status", "run", "attempt", "token", "guard", "next_guard", "lease_until", "seq", "redrives")
KEPT: Final = ("seq", "attempt", "progress", "finished_at", "labels", "run")


async def dump(stage: Stage) -> None:
    """Write rows, marks, hashes, queues and result files into the stage's directory."""
    await _sql(stage)
    await _redis(stage)
    await _queues(stage)
    _files(stage)


def _journal(stage: Stage, name: str) -> Journal:
    return Journal(stage.directory / f"{name}.jsonl")


async def _sql(stage: Stage) -> None:
    rows = _journal(stage, "rows")
    for row in await stage.select("SELECT task_id, run, status, result_key, document FROM ended"):
        document: dict[str, Any] = json.loads(row["document"])
        facts = {name: document.get(name) for name in KEPT}
        facts["sha256"] = (document.get("result") or {}).get("sha256")
        facts["error"] = ((document.get("error") or {}).get("type") or "").rpartition("/")[2]
        facts |= {"task_id": str(row["task_id"]), "run": row["run"], "status": row["status"]}
        rows.write(**facts, result_key=row["result_key"])
    rows.close()
    forgotten = _journal(stage, "forgotten")
    for row in await stage.select("SELECT task_id, forgotten_at FROM forgotten"):
        forgotten.write(task_id=str(row["task_id"]), at=row["forgotten_at"] / 1000)
    forgotten.close()
    refused = _journal(stage, "refused")
    for row in await stage.select("SELECT task_id, message_id FROM refused"):
        refused.write(task_id=str(row["task_id"]), message_id=row["message_id"])
    refused.close()


async def _redis(stage: Stage) -> None:
    hashes = _journal(stage, "hashes")
    async for key in stage.redis.scan_iter(match=TASK_PATTERN, count=1000):
        values = await stage.redis.hmget(key, HASH_FIELDS)
        facts = {name: value for name, value in zip(HASH_FIELDS, values, strict=True) if value is not None}
        hashes.write(task_id=str(UUID(key.rpartition(":")[2])), ttl=await stage.redis.ttl(key), **facts)
    hashes.close()
    living = _journal(stage, "living")
    for shard in range(SHARDS):
        for task_id in await stage.redis.zrange(live_key(shard), 0, -1):
            living.write(task_id=task_id)
    living.close()


async def _queues(stage: Stage) -> None:
    queues = _journal(stage, "queues")
    for name, count in (await stage.waiting()).items():
        queues.write(queue=name, messages=count)
    async with stage.channel() as channel:
        for name in (BIRTH_QUEUE, DEAD_QUEUE):
            declared = (await channel.declare_queue(name, passive=True)).declaration_result
            queues.write(queue=name, messages=declared.message_count)
    queues.close()


def _files(stage: Stage) -> None:
    files = _journal(stage, "files")
    root = stage.directory / "results"
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            files.write(key=str(path.relative_to(root)), sha256=digest, text=content.decode(errors="replace"))
    files.close()
