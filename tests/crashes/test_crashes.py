"""Whatever dies, and wherever: each story of the crash table is lived through, with processes that really die.

All stories share one service and go on beside each other: first every armed process is started, then each is led to its
point, and only when all have died comes the healthy worker, from whose coming on the time counts. `test_…` below ask
each story how it went.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stack.servers import RabbitServer
from tests.crashes.stage import Stage
from tests.crashes.table import TABLE, Crash
from tests.support.crashing import ROOT, Sluice, Theatre, theatre

STARTS_AT_ONCE = 3
FIRST = "after_redrive"
"""Dies first: as long as it leads, it must have no other task to care for."""

Stories = dict[str, asyncio.Task[None]]


class Play:
    """All stories at once."""

    def __init__(self, service: Theatre) -> None:
        self.service = service
        self.healthy = asyncio.Event()
        self._first_leads, self._first_has_died = asyncio.Event(), asyncio.Event()
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._waits = [asyncio.Event() for _ in TABLE]

    def begin(self) -> Stories:
        """Begin every story."""
        rows = sorted(zip(TABLE, self._waits, strict=True), key=lambda pair: pair[0].point != FIRST)
        return {row.name: asyncio.create_task(self._story(row, waits), name=row.name) for row, waits in rows}

    async def bring_the_healthy_worker(self) -> None:
        """Start it, once every story waits for it."""
        for waits in self._waits:
            await waits.wait()
        await self.service.worker("healthy")
        self.healthy.set()

    async def _story(self, row: Crash, waits: asyncio.Event) -> None:
        async with Sluice(self.service.rabbit.port) as sluice:
            stage = Stage(self.service, row.name, row.point, sluice, self.healthy)
            try:
                await self._until_dead(stage, row)
            finally:
                waits.set()
                if row.point == FIRST:
                    self._first_leads.set()
                    self._first_has_died.set()
            await self.healthy.wait()
            await row.then(stage)
            await _is_as_promised(stage, row)
            await row.after(stage)

    async def _until_dead(self, stage: Stage, row: Crash) -> None:
        if row.point != FIRST:
            await self._first_leads.wait()
        amqp_url = self.service.settings.amqp_url.get_secret_value()
        if row.who == "API":
            amqp_url = self.service.api_environment["LONGHAUL_AMQP_URL"]
        amqp_url = stage.sluice.url(amqp_url)
        async with self._starts:
            await stage.arm(row.who, LONGHAUL_AMQP_URL=amqp_url, **row.environment)
        if row.point == FIRST:
            await stage.leads()
            self._first_leads.set()
        else:
            await self._first_has_died.wait()
        await row.provoke(stage)
        await stage.has_died()
        await row.before(stage)


async def _is_as_promised(stage: Stage, row: Crash) -> None:
    """Ended exactly once and in time, as the table says; and nothing of it is left."""
    service = stage.service
    if row.status == "deleted":
        await stage.nothing_is_left()
        assert (await stage.ask("GET")).status_code == 404
    else:
        document = await stage.ended(within=row.within)
        assert (document["status"], document["attempt"]) == (row.status, row.attempt), document
        await stage.nothing_is_left()
    assert service.rows(stage.task_id) == row.rows
    assert service.count_of(stage.task_id) == dict(row.effects)


@pytest.fixture(scope="module")
async def stories(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stories]:
    """Every story, begun."""
    queues = [*(row.name for row in TABLE), "idle"]
    async with theatre(rabbit_server, tmp_path_factory.mktemp("crashes"), queues=queues) as service:
        play = Play(service)
        begun = play.begin()
        begun["healthy"] = asyncio.create_task(play.bring_the_healthy_worker())
        begun["copies"] = asyncio.create_task(_copies_are_gone(service, begun))
        yield begun
        for story in begun.values():
            story.cancel()
        await asyncio.gather(*begun.values(), return_exceptions=True)


async def _copies_are_gone(service: Theatre, begun: Stories) -> None:
    """In the end only the birth mark and the dead letters are left in RabbitMQ."""
    await asyncio.wait([begun[row.name] for row in TABLE])

    await service.until_messages(lambda queues: queues.keys() == {"birth", "dead"}, timeout=120)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in TABLE])
async def test_a_task_ends_once_wherever_a_process_dies(stories: Stories, row: Crash) -> None:
    """In time, with the right end and attempt, its effects repeated as often as the table says and no oftener."""
    await stories[row.name]


async def test_no_copy_of_a_message_is_left(stories: Stories) -> None:
    """However many a crash has left behind, they converge to none."""
    await stories["copies"]


def test_every_crash_point_has_its_story() -> None:
    """No point stands in the code of which the table does not say what happens there, and the other way round."""
    code = "".join(path.read_text() for room in ("app", "workers") for path in (Path(ROOT) / room).rglob("*.py"))
    calls = re.findall(r"(?<!def )crash_point\(([^)]+)\)", code)
    points = {point for call in calls for point in re.findall(r'"(\w+)"', call)}
    assert points == {row.point for row in TABLE}


def test_the_manual_has_the_same_table() -> None:
    """docs/protocol.md tells an operator what these stories hold."""
    manual = (Path(ROOT) / "docs/protocol.md").read_text()
    for row in TABLE:
        assert f"| {row.who}, `{row.point}` | {row.sees} | {row.recovers} | {row.how_fast} |" in manual
