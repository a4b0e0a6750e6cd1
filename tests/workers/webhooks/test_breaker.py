"""A receiver's slots and breaker: who finds no room holds nothing, and a dead receiver is tried by one."""

import asyncio
from datetime import timedelta
from random import Random

import pytest

from tests.support.clock import Clock
from workers.webhooks import breaker
from workers.webhooks.breaker import (
    FEW,
    LATEST_SECONDS,
    LONGEST_PAUSE,
    QUEUE_PER_SLOT,
    SPREAD_SECONDS,
    Receivers,
)

DEAD = "http://127.0.0.1:9"
PAUSE = timedelta(seconds=30)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receivers(clock: Clock) -> Receivers:
    return Receivers(slots=2, failures=3, pause=PAUSE, random=Random(7), now=clock)


async def fail(receivers: Receivers, times: int) -> None:
    """Attempt so often, one after the other, without an answer."""
    for _ in range(times):
        assert await receivers[DEAD].enter() is None
        receivers[DEAD].leave(answered=False)


async def test_after_some_failures_in_a_row_it_is_left_alone(receivers: Receivers) -> None:
    await fail(receivers, 3)
    waits = [await receivers[DEAD].enter() for _ in range(50)]
    assert all(wait is not None and PAUSE <= wait <= 2 * PAUSE for wait in waits)
    assert len({round(wait.total_seconds()) for wait in waits if wait}) > 5, (
        "who was refused comes back at various times"
    )
    assert await receivers["http://127.0.0.1:10"].enter() is None  # nobody else


async def test_an_answer_in_between_counts_anew(receivers: Receivers) -> None:
    for _ in range(5):
        await fail(receivers, 2)
        assert await receivers[DEAD].enter() is None
        receivers[DEAD].leave(answered=True)


async def test_one_tries_whether_it_is_back_while_the_others_wait(receivers: Receivers, clock: Clock) -> None:
    await fail(receivers, 3)
    clock.now += 31
    assert await receivers[DEAD].enter() is None
    assert await receivers[DEAD].enter() is not None
    receivers[DEAD].leave(answered=True)
    assert await receivers[DEAD].enter() is None
    assert not receivers[DEAD].is_left_alone


async def test_pauses_double_up_to_a_limit(receivers: Receivers, clock: Clock) -> None:
    await fail(receivers, 3)
    pauses = []
    for _ in range(7):
        wait = await receivers[DEAD].enter()
        assert wait is not None
        began = clock.now
        while await receivers[DEAD].enter() is not None:
            clock.now += 1
        pauses.append(clock.now - began)
        receivers[DEAD].leave(answered=False)
    assert pauses == [30, 60, 120, 240, 300, 300, 300]
    assert max(pauses) == LONGEST_PAUSE * 30


async def test_attempts_under_way_when_it_opens_do_not_lengthen_the_pause(receivers: Receivers, clock: Clock) -> None:
    await fail(receivers, 2)
    both = [await receivers[DEAD].enter(), await receivers[DEAD].enter()]
    assert both == [None, None]
    receivers[DEAD].leave(answered=False)
    receivers[DEAD].leave(answered=False)
    clock.now += 31
    assert await receivers[DEAD].enter() is None


async def test_a_slow_receiver_holds_few_and_sends_the_rest_away(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "PATIENCE", timedelta(seconds=0.2))
    answers = await asyncio.gather(*[receivers[DEAD].enter() for _ in range(100)])
    assert answers.count(None) == 2
    assert all(wait is None or timedelta(seconds=1) <= wait <= timedelta(seconds=10) for wait in answers)


async def test_who_queues_gets_the_next_slot(receivers: Receivers) -> None:
    inside = [await receivers[DEAD].enter(), await receivers[DEAD].enter()]
    queue = [asyncio.create_task(receivers[DEAD].enter()) for _ in range(2 * QUEUE_PER_SLOT)]
    await asyncio.sleep(0)
    assert await receivers[DEAD].enter() is not None  # the queue is full
    for _ in inside + queue:
        receivers[DEAD].leave(answered=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert await asyncio.gather(*queue) == [None] * len(queue)


async def test_those_who_queue_when_it_opens_are_sent_away(receivers: Receivers) -> None:
    await fail(receivers, 1)
    assert [await receivers[DEAD].enter(), await receivers[DEAD].enter()] == [None, None]
    queue = [asyncio.create_task(receivers[DEAD].enter()) for _ in range(4)]
    await asyncio.sleep(0)
    receivers[DEAD].leave(answered=False)
    receivers[DEAD].leave(answered=False)
    assert all(wait is not None and wait >= PAUSE for wait in await asyncio.gather(*queue))


async def test_nobody_queues_at_a_receiver_whose_slots_do_not_move(receivers: Receivers, clock: Clock) -> None:
    assert [await receivers[DEAD].enter(), await receivers[DEAD].enter()] == [None, None]
    clock.now += 2
    async with asyncio.timeout(1):
        assert await receivers[DEAD].enter() is not None
    receivers[DEAD].leave(answered=True)
    assert await receivers[DEAD].enter() is None
    queueing = asyncio.create_task(receivers[DEAD].enter())  # they move again
    await asyncio.sleep(0)
    assert not queueing.done()
    receivers[DEAD].leave(answered=True)
    assert await queueing is None


async def test_those_who_are_sent_away_come_again_at_the_pace_of_the_receiver(
    receivers: Receivers, clock: Clock
) -> None:
    async def sent_away(count: int) -> list[float]:
        waits = [await receivers[DEAD].enter() for _ in range(count)]
        assert None not in waits
        return [wait.total_seconds() for wait in waits if wait]

    queue = [asyncio.create_task(receivers[DEAD].enter()) for _ in range(2 + 2 * QUEUE_PER_SLOT)]
    await asyncio.sleep(0)
    for _ in range(10):
        clock.now += 0.1
        receivers[DEAD].leave(answered=True)
        queue.append(asyncio.create_task(receivers[DEAD].enter()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert 5 < max(await sent_away(100)) < 12

    clock.now += 20  # it hangs: one would come each ten seconds, if there were no limit
    crowd = await sent_away(1000)
    assert min(crowd[20:]) > LATEST_SECONDS - SPREAD_SECONDS
    assert max(crowd) <= LATEST_SECONDS
    for task in queue:
        task.cancel()


async def test_an_attempt_that_was_not_made_says_nothing_about_the_receiver(receivers: Receivers, clock: Clock) -> None:
    await fail(receivers, 2)
    assert await receivers[DEAD].enter() is None
    receivers[DEAD].leave(answered=None)
    await fail(receivers, 1)
    assert receivers[DEAD].is_left_alone
    clock.now += 31
    assert await receivers[DEAD].enter() is None
    receivers[DEAD].leave(answered=None)
    assert await receivers[DEAD].enter() is None  # somebody else tries it
    receivers[DEAD].leave(answered=True)
    assert not receivers[DEAD].is_left_alone


async def test_nothing_is_remembered_of_the_healthy_and_of_the_long_dead(receivers: Receivers, clock: Clock) -> None:
    async def reach(port: int) -> None:
        origin = f"http://127.0.0.1:{port}"
        assert await receivers[origin].enter() is None
        receivers[origin].leave(answered=True)

    await fail(receivers, 3)
    for port in range(1000, 1000 + 10 * FEW):
        await reach(port)
    assert len(receivers) <= FEW
    assert receivers[DEAD].is_left_alone
    clock.now += 2 * LONGEST_PAUSE * 30 + 1
    for port in range(1000, 1000 + FEW):
        await reach(port)
    assert not receivers[DEAD].is_left_alone
