"""How full a queue is, how fast it drains, and what a caller is told when it is full."""

import asyncio

import pytest

from app.broker.connection import BrokerConnection
from app.broker.depth import QueueDepths
from app.domain.errors import QueueFull
from app.service.capacity import Capacity
from tests.broker.conftest import Carrier, letter
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def depths(carrier: Carrier, clock: Clock) -> QueueDepths:
    return QueueDepths(carrier.connection, ["work"], clock=clock)


async def test_a_queue_takes_tasks_up_to_its_depth_and_again_when_there_is_room(
    carrier: Carrier, depths: QueueDepths, clock: Clock
) -> None:
    capacity = Capacity(depths, {"work": 2})
    for _ in range(2):
        with await capacity.place("work"):
            await carrier.publisher.publish(letter())
    await depths.look()
    with pytest.raises(QueueFull), await capacity.place("work"):
        raise AssertionError("it was let in")
    await carrier.take("work")
    clock.now += 1
    with await capacity.place("work"):
        pass


async def test_between_two_polls_what_is_put_in_counts(carrier: Carrier, depths: QueueDepths) -> None:
    """A flood that comes within one poll finds the same limit, and all of it asks the broker once."""
    capacity = Capacity(depths, {"work": 5})
    await depths.look()
    published = 0

    async def one() -> None:
        nonlocal published
        with await capacity.place("work"):
            published += 1
            await carrier.publisher.publish(letter())

    answers = await asyncio.gather(*(one() for _ in range(50)), return_exceptions=True)
    assert published == 5
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 45


async def test_an_old_count_refuses_nobody(carrier: Carrier, depths: QueueDepths, clock: Clock) -> None:
    """A queue that seems full is looked at once more: workers may have emptied it since the last poll."""
    capacity = Capacity(depths, {"work": 1})
    depths.saw("work", 1)
    clock.now += 1
    with await capacity.place("work"):
        pass


async def test_a_count_that_has_grown_old_refuses_nobody(clock: Clock) -> None:
    """A broker that does not answer is the publisher's to report."""
    depths = QueueDepths(BrokerConnection("amqp://127.0.0.1/", name="never opened"), ["work"], clock=clock)
    depths.saw("work", 1)
    assert depths.of("work") is not None
    clock.now += 16
    assert depths.of("work") is None


async def test_retry_after_comes_from_the_drain_rate(depths: QueueDepths, clock: Clock) -> None:
    capacity = Capacity(depths, {"work": 100})
    depths.saw("work", 100)
    assert capacity.full("work").retry_after == 30, "nothing goes, as far as is known"
    for ready in (98, 96, 94, 92, 100):  # two a second, then somebody else's eight come in
        clock.now += 1
        depths.saw("work", ready)
    assert depths.drain_per_second("work") == pytest.approx(8 / 5)
    assert capacity.full("work").retry_after == 7, "ten have to go, at 1.6 a second"


async def test_what_this_process_puts_in_does_not_hide_what_goes(depths: QueueDepths, clock: Clock) -> None:
    depths.saw("work", 10)
    for _ in range(5):
        with depths.adding("work"):
            pass
    clock.now += 1
    depths.saw("work", 10)
    assert depths.drain_per_second("work") == 5


async def test_without_a_broker_no_depth_is_known_and_nothing_refused() -> None:
    depths = QueueDepths(BrokerConnection("amqp://127.0.0.1/", name="never opened"), ["work"])
    depths.saw("work", 1000)
    await depths.look()
    assert depths.of("work") is None
    with await Capacity(depths, {"work": 1}).place("work"):
        pass
