"""The short form: some of the faults, for some seconds, and the checker's verdict; and what a run stands on.

The long one is `make chaos`.
"""

import asyncio
import itertools
from pathlib import Path
from typing import Self

import pytest

from tests.chaos.mutations import MUTATIONS, Mutation
from tests.chaos.nemesis import ALL, KINDS
from tests.chaos.plans import plan
from tests.chaos.proxy import Proxy, Way
from tests.chaos.run import Wanted, judge, run
from tests.chaos.schedule import may_meet, schedule
from tests.chaos.stage import ROOT
from tests.support.waiting import wait_until

SECONDS = 20.0
SEED = 6
SHORT = (
    *("kill-worker", "kill-api", "stop-worker", "empty-redis", "kill-redis", "cut", "lose-answers"),
    *("duplicate", "alarm", "sql-away", "out-of-memory", "empty-rabbitmq"),
)


async def test_nothing_is_lost_and_nothing_comes_back_whatever_breaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A whole service under load and faults, and a verdict by a program that knows none of it."""
    directory = tmp_path / "run"
    directory.mkdir()
    kinds = tuple(KINDS[name][0] for name in SHORT)
    await run(Wanted(directory=directory, seed=SEED, seconds=SECONDS, rate=6, kinds=kinds, calm=False))
    status = await asyncio.to_thread(judge, directory)
    assert status == 0, capfd.readouterr().out


def test_a_seed_is_a_schedule() -> None:
    one, same, other = (list(itertools.islice(schedule(seed, ALL), 200)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert [plan(1, number) for number in range(50)] == [plan(1, number) for number in range(50)]


def test_kinds_come_equally_often_and_a_fifth_of_the_steps_has_two() -> None:
    steps = list(itertools.islice(schedule(3, ALL), 1000))
    counts = {kind.name: sum(fault.kind == kind for step in steps for fault in step.faults) for kind in ALL}
    assert max(counts.values()) - min(counts.values()) <= 2
    assert 150 < sum(len(step.faults) == 2 for step in steps) < 250


def test_both_stores_are_never_emptied_at_once() -> None:
    for step in itertools.islice(schedule(4, ALL), 2000):
        assert len(step.empties) <= 1
        if len(step.faults) == 2:
            assert may_meet(*(fault.kind for fault in step.faults))
    assert not may_meet(KINDS["empty-redis"][0], KINDS["empty-rabbitmq"][0])


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_guard_that_the_mutation_run_takes_out_stands_where_it_says(mutation: Mutation) -> None:
    assert mutation.changed(ROOT) != (ROOT / mutation.file).read_text()


# --- the proxy


class Echo:
    """A server that says back what it hears, and counts it."""

    def __init__(self) -> None:
        self.heard = b""
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            self.heard += data
            writer.write(data)
        writer.close()

    async def has_heard(self, words: bytes) -> None:
        """Wait until it has heard exactly this."""

        async def heard() -> bool:
            return self.heard == words

        await wait_until(heard, what=f"{words!r}")


async def test_a_lost_answer_is_to_something_that_was_done() -> None:
    async with Echo() as server, Proxy("test", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.lose_answers(1)
        writer.write(b"do it")
        with pytest.raises(ConnectionResetError):
            await reader.read(10)
        await server.has_heard(b"do it")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"!")
        assert await reader.read(10) == b"!"
        writer.close()


async def test_an_answer_can_be_broken_off_in_its_middle() -> None:
    async with Echo() as server, Proxy("test", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.lose_answers(1, keep=2)
        writer.write(b"answer")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(6)
        writer.close()


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_ends_connections_and_lets_new_ones_in(reset: bool) -> None:
    async with Echo() as server, Proxy("test", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"1")
        assert await reader.read(10) == b"1"
        assert proxy.cut(reset=reset) == 1
        if reset:
            with pytest.raises(ConnectionResetError):
                await reader.read(10)
        else:
            assert await reader.read(10) == b""
        writer.close()
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"2")
        await server.has_heard(b"12")
        writer.close()


async def test_what_is_held_arrives_when_it_is_released() -> None:
    async with Echo() as server, Proxy("test", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.hold(Way.DOWN)
        writer.write(b"there")
        await server.has_heard(b"there")
        proxy.hold(Way.UP)
        writer.write(b" and back")
        await asyncio.sleep(0.1)
        assert server.heard == b"there"
        proxy.release()
        assert await reader.readexactly(14) == b"there and back"
        writer.close()


async def test_a_server_that_is_away_takes_nobody() -> None:
    async with Echo() as server, Proxy("test", server.port) as proxy:
        with proxy.away():
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            with pytest.raises(ConnectionResetError):
                await reader.read(10)
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"back")
        assert await reader.read(10) == b"back"
        writer.close()
