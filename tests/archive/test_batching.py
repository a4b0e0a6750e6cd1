"""Groups: who comes alone waits for nobody, who comes in a crowd shares, and nobody pays for another's item."""

import asyncio

import pytest

from app.archive.batching import Groups
from app.domain.errors import ArchiveUnavailable

BAD, OUTAGE = -1, -2


class Work:
    """Doubles numbers, as soon as the test lets it."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, items: list[int]) -> list[int]:
        self.groups.append(items)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.may_go_on.wait()
            if BAD in items:
                raise ValueError("bad")
            if OUTAGE in items:
                raise ArchiveUnavailable
        finally:
            self.under_way -= 1
        return [2 * item for item in items]


@pytest.fixture
def work() -> Work:
    return Work()


def groups_of(work: Work, *, largest: int = 100) -> Groups[int, int]:
    return Groups(work, name="test", largest=largest)


async def turn(times: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(times):
        await asyncio.sleep(0)


async def test_those_who_come_together_are_one_group(work: Work) -> None:
    groups = groups_of(work)
    assert await asyncio.gather(*map(groups.do, range(50))) == [2 * number for number in range(50)]
    assert work.groups == [list(range(50))]


async def test_who_comes_alone_is_served_when_the_loop_turns(work: Work) -> None:
    groups = groups_of(work)
    alone = asyncio.create_task(groups.do(1))
    await turn(2)
    assert work.groups == [[1]]
    assert await alone == 2


async def test_those_who_come_meanwhile_share_the_next_group(work: Work) -> None:
    groups = groups_of(work)
    work.may_go_on.clear()
    callers = []
    for number in range(20):
        callers.append(asyncio.create_task(groups.do(number)))
        await turn()
    assert work.groups == [[0], [1]]
    work.may_go_on.set()
    assert await asyncio.gather(*callers) == [2 * number for number in range(20)]
    assert work.groups == [[0], [1], list(range(2, 20))]
    assert work.most_under_way == 2


async def test_a_crowd_is_cut_into_groups_of_bounded_size(work: Work) -> None:
    groups = groups_of(work, largest=10)
    work.may_go_on.clear()
    callers = [asyncio.create_task(groups.do(number)) for number in range(35)]
    await turn()
    assert list(map(len, work.groups)) == [10, 10]
    work.may_go_on.set()
    assert await asyncio.gather(*callers) == [2 * number for number in range(35)]
    assert list(map(len, work.groups)) == [10, 10, 10, 5]
    assert work.most_under_way == 2


async def test_a_bad_item_fails_its_own_caller_only(work: Work) -> None:
    groups = groups_of(work)
    items = [*range(13), BAD, *range(14, 20)]
    answers = await asyncio.gather(*map(groups.do, items), return_exceptions=True)
    assert isinstance(answers.pop(13), ValueError)
    assert answers == [2 * number for number in items if number != BAD]


async def test_an_outage_fails_the_whole_group_at_once_with_an_error_for_each(work: Work) -> None:
    groups = groups_of(work)
    answers = await asyncio.gather(*map(groups.do, (1, OUTAGE, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ArchiveUnavailable] * 3
    assert len(set(map(id, answers))) == 3
    assert work.groups == [[1, OUTAGE, 2]]


async def test_a_cancelled_caller_does_not_cancel_its_group(work: Work) -> None:
    groups = groups_of(work)
    work.may_go_on.clear()
    callers = [asyncio.create_task(groups.do(number)) for number in range(3)]
    await turn()
    callers[0].cancel()
    await turn()
    work.may_go_on.set()
    assert await asyncio.gather(*callers[1:]) == [2, 4]
    assert callers[0].cancelled()
    assert work.groups == [[0, 1, 2]]


async def test_who_leaves_before_its_group_begins_is_left_out(work: Work) -> None:
    groups = groups_of(work)
    work.may_go_on.clear()
    callers = []
    for number in range(4):
        callers.append(asyncio.create_task(groups.do(number)))
        await turn()
    callers[2].cancel()
    await turn()
    work.may_go_on.set()
    await asyncio.gather(callers[0], callers[1], callers[3])
    assert work.groups == [[0], [1], [3]]


async def test_closing_answers_whoever_was_taken_and_takes_nobody_more(work: Work) -> None:
    groups = groups_of(work)
    work.may_go_on.clear()
    callers = [asyncio.create_task(groups.do(number)) for number in range(3)]
    await turn()
    closing = asyncio.create_task(groups.close())
    await turn()
    assert not closing.done()
    with pytest.raises(ArchiveUnavailable):
        await groups.do(4)
    work.may_go_on.set()
    await closing
    assert await asyncio.gather(*callers) == [0, 2, 4]
    await groups.close()
