"""What happens in the crash stories: how each process comes to die, and what its caller sees before and after."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from app.domain.task import Owner
from app.store.keys import owner_active_key, owner_id, task_key
from tests.crashes.stage import Stage
from tests.support.waiting import wait_until

Story = Callable[[Stage], Awaitable[None]]


async def nothing(stage: Stage) -> None:
    """Nothing more than what every story has."""


# --- how it comes to die


async def submits(stage: Stage) -> None:
    """Submit to the API that dies over it."""
    await stage.submit_to_the_doomed()


async def submits_unconfirmed(stage: Stage) -> None:
    """Submit, with a message that is on its way for longer than the API waits; it arrives after its death."""
    async with stage.client(doomed=True) as client:  # it opens its channel with the first one

        async def accepted() -> bool:  # all rows of the table begin at once: the broker may take its time
            return bool((await client.post("/v1/workload", json={"action": "idle"})).status_code == 202)

        await wait_until(accepted, timeout=30, what="a first task's acceptance")
    stage.sluice.shut()
    await stage.submit_to_the_doomed()
    await stage.has_died()
    stage.sluice.open()

    async def arrived() -> bool:
        return await stage.service.ready(stage.name) == 1

    await wait_until(arrived, what="the late message")


async def cancels(stage: Stage) -> None:
    """Cancel a waiting task."""
    await stage.submit()
    await stage.without_answer("POST", f"/v1/workload/{stage.task_id}/cancel")


async def _cancelled(stage: Stage) -> None:
    await stage.submit()
    assert (await stage.ask("POST", "cancel")).json()["status"] == "CANCELLED"


async def retries(stage: Stage) -> None:
    """Retry a cancelled task."""
    await _cancelled(stage)
    await stage.without_answer("POST", f"/v1/workload/{stage.task_id}/retry")


async def deletes(stage: Stage) -> None:
    """Delete a cancelled task whose message still waits."""
    await _cancelled(stage)
    await stage.without_answer("DELETE", f"/v1/workload/{stage.task_id}")


def runs(**work: Any) -> Story:
    """Submit such a task to the healthy API; the doomed worker alone serves its queue."""

    async def story(stage: Stage) -> None:
        await stage.submit(**work)

    return story


async def runs_after_redis_lost_it(stage: Stage) -> None:
    """Let Redis lose the task while it waits: it is rebuilt from its message."""
    await stage.submit(delay_seconds=3.5)
    async with stage.service.operator() as redis:
        await redis.delete(task_key(UUID(stage.task_id)))
    assert (await stage.ask("GET")).status_code == 404


async def loses_its_message(stage: Stage) -> None:
    """Lose the message; the leader makes a new one, and dies before it is noted."""
    await stage.submit()
    await stage.service.purge(stage.name)


# --- what is seen before a worker comes


async def is_nothing(stage: Stage) -> None:
    """The caller's task does not exist."""
    await stage.has_died()
    assert (await stage.ask("GET")).status_code == 404


def is_nothing_but(refusal: str) -> Story:
    """The caller's task does not exist, and its message is `doubted`, or `refused`."""

    async def story(stage: Stage) -> None:
        await is_nothing(stage)
        assert stage.service.refusals(stage.task_id) == [refusal]

    return story


async def is_not_found(stage: Stage) -> None:
    """The caller's task does not exist any more, and is in no list."""
    await is_nothing(stage)
    assert (await stage.ask("DELETE")).status_code == 404
    async with stage.client() as client:
        assert (await client.get("/v1/workload")).json()["items"] == []


async def counts_once(stage: Stage) -> None:
    """The order counts against its owner's quota, and nothing else is there; repeated, it still counts once."""
    await is_nothing(stage)
    key = owner_active_key(owner_id(Owner(stage.service.settings.jwt.issuer, stage.subject)))
    async with stage.service.operator() as redis:
        assert await redis.zrange(key, 0, -1) == [stage.task_id]
        await repeats(stage)
        assert await redis.zrange(key, 0, -1) == [stage.task_id]


async def is_nothing_until_repeated(stage: Stage) -> None:
    """No message, no task, a trace that goes by itself; then the caller repeats the request."""
    await is_nothing(stage)
    assert await stage.service.ready(stage.name) == 0
    async with stage.service.operator() as redis:
        assert 0 < await redis.pttl(task_key(UUID(stage.task_id))) <= 60_000
    await repeats(stage)


async def repeats(stage: Stage) -> None:
    """The caller repeats the request with its key, and gets the same id."""
    await stage.has_died()
    assert (await stage.submit())["status"] == "PENDING"


async def is_pending(stage: Stage) -> None:
    """It is there, and waits."""
    await stage.has_died()
    assert (await stage.ask("GET")).json()["status"] == "PENDING"


async def is_asked_to_stop(stage: Stage) -> None:
    """It waits, and shows that it is to stop; or it reads as ended already."""
    await stage.has_died()
    shown = (await stage.ask("GET")).json()
    assert shown["cancel_requested"] or shown["status"] == "CANCELLED", shown


async def can_be_retried_later(stage: Stage) -> None:
    """The old end is shown; a further retry is refused until the begun run has gone."""
    await stage.has_died()
    assert (await stage.ask("GET")).json()["status"] == "CANCELLED"
    assert (await stage.ask("POST", "retry")).status_code == 409
    async with stage.service.operator() as redis:
        key = task_key(UUID(stage.task_id))
        assert 0 < await redis.pttl(key) <= 60_000
        await redis.pexpire(key, 1)  # instead of waiting
        await asyncio.sleep(0.01)
    answer = await stage.ask("POST", "retry")
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")


async def is_half_deleted(stage: Stage) -> None:
    """It is still there, but cannot be brought to life for the time being; the caller deletes it again."""
    await stage.has_died()
    async with stage.service.operator() as redis:
        assert 0 < await redis.pttl(task_key(UUID(stage.task_id))) <= 60_000
    assert (await stage.ask("GET")).json()["status"] == "CANCELLED"
    assert (await stage.ask("POST", "retry")).status_code == 410
    assert (await stage.ask("DELETE")).status_code == 204
    await is_not_found(stage)


async def is_completed(stage: Stage) -> None:
    """It reads COMPLETED though the worker is dead."""
    await stage.has_died()
    assert (await stage.ask("GET")).json()["status"] == "COMPLETED"


# --- what is true in the end


async def replays(stage: Stage) -> None:
    """The caller repeats the request, and gets the task as it is now."""
    async with stage.client() as client:
        answer = await client.post("/v1/workload", json=stage.order({}), headers=stage.headers)
    assert answer.status_code == 202
    assert answer.headers["idempotent-replayed"] == "true"
    assert (answer.json()["task_id"], answer.json()["status"]) == (stage.task_id, "COMPLETED")


async def never_ran_until_repeated(stage: Stage) -> None:
    """The late message was dropped; then the caller repeats the request, and it runs."""
    await stage.healthy.wait()

    async def dropped() -> bool:
        return await stage.service.ready(stage.name) == 0

    await wait_until(dropped, what="the dropping of the late message")
    await is_nothing(stage)
    assert stage.service.effects_of(stage.task_id) == []
    assert stage.service.rows(stage.task_id) == []
    await stage.submit()


def serves_the_file_of_attempt(attempt: int) -> Story:
    """That attempt's file is the result."""

    async def story(stage: Stage) -> None:
        assert (await stage.ask("GET", "result")).text == f"made by attempt {attempt}"

    return story


async def has_two_dead_letters(stage: Stage) -> None:
    """Both attempts buried it, with the reason."""
    assert await stage.service.dead_letters_of(stage.task_id) == ["handler-error"] * 2
