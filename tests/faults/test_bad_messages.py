"""Messages that should not be there: each is dealt with once, and none is handed round for ever."""

import asyncio
import secrets
from uuid import uuid4

import httpx
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage

from app.security.sealing import Sealer
from tests.faults.conftest import LEASE_SECONDS, Breakable, Diary, submit
from tests.support.waiting import wait_until


async def _buried(broken: Breakable) -> AbstractIncomingMessage:
    """Wait for a dead letter, and for nothing else to be left."""

    async def dead() -> bool:
        return await broken.waiting() == {"dead": 1}

    await wait_until(dead, what="a dead letter")
    (message,) = await broken.take("dead")
    return message


@pytest.mark.parametrize(
    ("headers", "reason"),
    [({}, "malformed"), ({"task_id": "no id"}, "malformed"), ({"task_id": str(uuid4())}, "undecryptable")],
)
async def test_a_message_that_cannot_be_read_goes_to_the_dead_letters_with_the_reason(
    broken: Breakable, headers: dict[str, str], reason: str
) -> None:
    body = secrets.token_bytes(64)
    await broken.publish("slow", Message(body, message_id="m", type="hold", headers=dict(headers)))
    message = await _buried(broken)
    assert message.body == body
    assert message.headers["reason"] == reason
    assert message.headers["queue"] == "slow"


async def test_a_sealed_message_that_is_no_envelope_is_a_dead_letter_and_is_not_shown_in_the_log(
    broken: Breakable,
) -> None:
    task_id = uuid4()
    keys = {name: key.get_secret_value() for name, key in broken.service.settings.encryption_keys.items()}
    sealed = Sealer(keys).seal(b'{"params": {"a": "a word in a payload"}}', task_id=task_id, action="hold")
    await broken.publish("slow", Message(sealed, message_id="m", type="hold", headers={"task_id": str(task_id)}))
    try:
        message = await _buried(broken)
        assert message.headers["reason"] == "malformed"
        assert "a word in a payload" not in broken.service.worker_log
    except AssertionError:
        for worker in broken.service.workers:  # else it stays in their hands
            worker.kill()
        await broken.take("slow")
        raise


async def test_an_action_without_a_handler_is_left_to_another_worker(
    broken: Breakable, caller: httpx.AsyncClient
) -> None:
    """It is put aside, not handed round: one line in the log, and nothing in the work queue."""
    service = broken.service
    for worker in service.workers:
        worker.end(patience=15)
    settings = service.config.read_text()
    service.config.write_text(settings.replace("- tests.faults.work_of_unknown\n", ""))
    try:
        await broken.mend()
    finally:
        service.config.write_text(settings)
    before = service.worker_log.count("no handler for this action")
    task = await submit(caller, "unknown")

    async def put_aside() -> bool:
        return await broken.waiting() == {"delay.15s": 1}

    await wait_until(put_aside, what="the message's delay")
    assert service.worker_log.count("no handler for this action") == before + 1
    assert (await broken.task(task))["status"] == "PENDING"

    for worker in service.workers:
        worker.end(patience=15)
    (message,) = await broken.take("delay.15s")
    await broken.publish(message.routing_key or "", message)  # what the broker does when the time is over
    await broken.mend()
    assert (await service.ended(caller, task, timeout=5))["status"] == "COMPLETED"


async def test_the_same_message_twice_at_once_runs_once_and_leaves_nothing(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary
) -> None:
    """Two workers, two deliveries: one claims, the other parks a copy, which is dropped after the end."""
    for worker in broken.service.workers:
        worker.end(patience=15)
    task = await submit(caller, "hold", what="steps", diary=str(diary.path))
    (message,) = await broken.take("slow")
    for _ in range(4):
        await broken.publish("slow", message)
    await asyncio.gather(broken.service.start_worker(), broken.service.start_worker())
    document = await broken.service.ended(caller, task)
    assert (document["status"], document["attempt"]) == ("COMPLETED", 1)
    assert diary.lines.count("done") == diary.lines.count("begun 1") == 1

    async def nothing_waits() -> bool:
        return not await broken.waiting()

    await wait_until(nothing_waits, timeout=2 * LEASE_SECONDS + 2, what="the end of the copies")
    assert diary.lines.count("begun 1") == 1
    assert (await broken.task(task))["status"] == "COMPLETED"


@pytest.mark.parametrize("action", ["hold", "blocking_hold"])
async def test_a_handler_that_raises_fails_its_task_and_only_its_owner_reads_why(
    broken: Breakable, caller: httpx.AsyncClient, diary: Diary, action: str
) -> None:
    before = len(broken.service.worker_log)
    task = await submit(caller, action, what="fail", diary=str(diary.path))
    document = await broken.service.ended(caller, task)
    assert document["status"] == "FAILED"
    assert document["error"]["type"] == "/problems/handler-error"
    assert document["error"]["detail"] == "RuntimeError: a word for the owner alone"
    log = broken.service.worker_log[before:]
    assert "a word for the owner alone" not in log
    assert "Traceback" not in log
    assert any(
        "the attempt failed" in line and "RuntimeError at" in line and "work.py:" in line and task in line
        for line in log.splitlines()
    )
