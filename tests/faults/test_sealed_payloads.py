"""What is sealed for one task opens for no other: whoever exchanges it gets dead letters, and their tasks FAILED."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import httpx
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from redis.asyncio import Redis

from app.store.keys import task_key
from tests.faults.conftest import LEASE_SECONDS, Breakable, Diary, submit
from tests.support.service import BIN
from tests.support.waiting import wait_until


async def _stop_the_workers(broken: Breakable) -> None:
    for worker in broken.service.workers:
        worker.end(patience=15)


async def _dead(broken: Breakable, count: int) -> dict[str, AbstractIncomingMessage]:
    """Wait for so many dead letters; return them by their task."""

    async def there() -> bool:
        return (await broken.waiting()).get("dead") == count

    await wait_until(there, timeout=30, what=f"{count} dead letters")
    return {str(message.headers["task_id"]): message for message in await broken.take("dead")}


def _with_body(message: AbstractIncomingMessage, body: bytes) -> Message:
    headers = {"task_id": str(message.headers["task_id"])}
    return Message(body, message_id=message.message_id, type=message.type, headers=dict(headers))


async def test_bodies_exchanged_between_two_tasks_are_dead_letters_and_their_tasks_fail(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    await _stop_the_workers(broken)
    tasks = [await submit(caller, "hold", what="nothing", diary=f"{diary.path}-{name}") for name in ("one", "two")]
    one, two = await broken.take("slow")
    await broken.publish("slow", _with_body(one, two.body))
    await broken.publish("slow", _with_body(two, one.body))
    before = len(broken.service.worker_log)
    await broken.mend()
    for task in tasks:
        document = await broken.service.ended(caller, task)
        assert document["status"] == "FAILED"
        assert document["error"]["type"] == "/problems/undecryptable"
        assert "attempt" not in document or document["attempt"] == 0
    letters = await _dead(broken, 2)
    assert letters.keys() == set(tasks)
    assert {message.headers["reason"] for message in letters.values()} == {"undecryptable"}
    assert not list(diary.path.parent.glob("diary*"))  # neither has run, under whichever order
    assert str(diary.path) not in broken.service.worker_log[before:]

    for task, name in zip(tasks, ("one", "two"), strict=True):  # Redis has the order, too: a retry needs no message
        assert (await caller.post(f"/v1/workload/{task}/retry")).status_code == 202
        assert (await broken.service.ended(caller, task))["status"] == "COMPLETED"
        assert diary.path.with_name(f"diary-{name}").exists()


async def test_an_order_that_opens_nowhere_is_not_tried_again_and_its_dead_letter_stays(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    await _stop_the_workers(broken)
    task = await submit(caller, "hold", what="nothing", diary=str(diary.path))
    (message,) = await broken.take("slow")
    await broken.publish("slow", _with_body(message, message.body[::-1]))
    async with Redis.from_url(broken.redis_server.url) as redis:
        await redis.hset(task_key(UUID(task)), "envelope", message.body[::-1])
    await broken.mend()
    assert (await broken.service.ended(caller, task))["error"]["type"] == "/problems/undecryptable"
    answer = await caller.post(f"/v1/workload/{task}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    process = await asyncio.create_subprocess_exec(
        BIN / "longhaul", "admin", "dead", "redrive", "--config", broken.service.config, task,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "1 do not open under the configured keys, and stay" in errors.decode()
    assert (await _dead(broken, 1)).keys() == {task}


async def test_a_message_that_does_not_open_and_guards_nothing_harms_no_task(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    await _require_harmless(broken, caller, diary, changed=lambda body: body[::-1])


async def test_a_message_under_another_id_than_its_envelopes_begins_nothing(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    await _require_harmless(broken, caller, diary, changed=lambda body: body)


async def _require_harmless(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary, *, changed: Callable[[bytes], bytes]
) -> None:
    """See that a message under an id of nobody becomes a dead letter, and the task runs by its own."""
    await _stop_the_workers(broken)
    task = await submit(caller, "hold", what="nothing", diary=str(diary.path))
    (message,) = await broken.take("slow")
    stray = Message(changed(message.body), message_id="another", type="hold", headers={"task_id": task})
    await broken.publish("slow", stray)
    await broken.mend()
    assert (await _dead(broken, 1))[task].message_id == "another"
    await broken.publish("slow", message)  # only now: a task that is being worked at is left alone in any case
    assert (await broken.service.ended(caller, task))["status"] == "COMPLETED"


async def test_one_that_does_not_open_leaves_a_running_task_to_its_worker(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    await diary.has("begun 1")
    guard = (await broken.task(task))["guard"]
    await broken.publish("slow", Message(b"garbage", message_id=guard, type="hold", headers={"task_id": task}))
    document = await broken.service.ended(caller, task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    await _dead(broken, 1)
    assert (await broken.task(task))["status"] == "COMPLETED"


async def test_a_checkpoint_of_another_task_is_not_taken_for_ones_own(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    tasks = [await submit(caller, "hold", what="wait once", diary=f"{diary.path}-{name}") for name in ("one", "two")]

    async def both_committed() -> bool:
        return all([(await broken.task(task)).get("checkpoint") for task in tasks])

    await wait_until(both_committed, timeout=30, what="the checkpoints")
    for worker in broken.service.workers:
        worker.kill()
    async with Redis.from_url(broken.redis_server.url) as redis:
        keys = [task_key(UUID(task)) for task in tasks]
        checkpoints = [await redis.hget(key, "checkpoint") for key in keys]
        for key, checkpoint in zip(keys, reversed(checkpoints), strict=True):
            await redis.hset(key, "checkpoint", checkpoint)
    await broken.mend()
    for task in tasks:
        document = await broken.service.ended(caller, task, timeout=4 * LEASE_SECONDS + 30)
        assert document["status"] == "FAILED"
        assert document["error"]["type"] == "/problems/undecryptable"
        assert "checkpoint" in document["error"]["detail"]
    assert (await _dead(broken, 2)).keys() == set(tasks)
    for task in tasks:
        assert (await caller.post(f"/v1/workload/{task}/retry")).status_code == 202
        assert (await broken.service.ended(caller, task))["status"] == "COMPLETED"
