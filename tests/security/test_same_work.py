"""Another's task and an unknown one take the same questions to the same servers: time does not tell them apart."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from app.archive.archive import open_archive
from app.archive.upgrading import upgrade
from app.domain.envelope import Envelope
from app.domain.errors import NotFound
from app.domain.task import Owner
from app.security.principal import DEFAULT_SCOPES, Principal
from app.service.status import Statuses
from app.store.listing import OwnerLists
from app.store.replies import Created
from app.store.tasks import TaskStore

ALICE, BOB = Owner("longhaul", "alice"), Owner("longhaul", "bob")


async def test_the_questions_are_the_same(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/archive.db"
    await upgrade(url)
    async with open_archive(url) as archive:
        store = TaskStore(redis, lease=timedelta(seconds=3), status_ttl=timedelta(hours=1))
        statuses = Statuses(tasks=store, lists=OwnerLists(redis), archive=archive)
        asked: list[str] = []

        def noting(name: str, find: Callable[[UUID], Awaitable[Any]]) -> Callable[[UUID], Awaitable[Any]]:
            async def noted(task_id: UUID) -> Any:
                asked.append(name)
                return await find(task_id)

            return noted

        monkeypatch.setattr(store, "find", noting("redis", store.find))
        monkeypatch.setattr(archive, "find", noting("sql", archive.find))
        envelope = Envelope(
            task_id=uuid4(), message_id="m", action="noop", queue="bench", owner=ALICE, params={}, max_attempts=1,
            created_at=1,
        )  # fmt: skip
        created = await store.create(envelope, b"sealed")
        assert isinstance(created, Created)
        assert await store.queued(envelope, created.epoch)

        alice, bob = Principal(ALICE, DEFAULT_SCOPES, 0), Principal(BOB, DEFAULT_SCOPES, 0)
        assert (await statuses.read(envelope.task_id, principal=alice)).id == envelope.task_id
        assert asked == ["redis"]
        for task_id in (envelope.task_id, uuid4()):
            asked.clear()
            with pytest.raises(NotFound):
                await statuses.read(task_id, principal=bob)
            assert asked == ["redis", "sql"]
