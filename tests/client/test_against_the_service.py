"""The client's journeys against the true service."""

import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest

from app.client import LonghaulClient, ServiceProblem
from app.client.watching import etag_of
from app.domain.lifecycle import TaskStatus
from app.domain.task import StatusDocument
from stack.servers import RabbitServer, RedisServer
from tests.support.service import Service, running_service


@pytest.fixture
async def mine(service: Service, subject: str) -> AsyncIterator[LonghaulClient]:
    """Our client, as this test's own caller."""
    async with LonghaulClient(service.base_url, service.token(subject)) as client:
        yield client


async def watched(client: LonghaulClient, task: StatusDocument) -> list[StatusDocument]:
    async with aclosing(client.watch(task)) as documents:
        return [document async for document in documents]


async def test_a_report_is_ordered_watched_and_brought_home(mine: LonghaulClient, tmp_path: Path) -> None:
    task = await mine.submit("generate_report", {"id": 1024}, labels=["monday"], idempotency_key="monday")
    seen = await watched(mine, task)
    assert seen[-1].status is TaskStatus.COMPLETED
    assert [one.seq for one in seen] == sorted({one.seq for one in seen})
    assert [one.progress for one in seen] == sorted(one.progress for one in seen)
    target = tmp_path / "report.zip"
    described = await mine.download(task.task_id, target)
    assert described == seen[-1].result
    with zipfile.ZipFile(target) as archive:
        assert "report.html" in archive.namelist()
    # The same again, from the middle: what an earlier process left behind.
    half = described.size // 2
    (tmp_path / f"again.zip.{described.sha256[:12]}.part").write_bytes(target.read_bytes()[:half])
    told: list[int] = []
    await mine.download(task.task_id, tmp_path / "again.zip", on_bytes=lambda there, _: told.append(there))
    assert (tmp_path / "again.zip").read_bytes() == target.read_bytes()
    assert min(told) > half


async def test_a_task_is_followed_live(mine: LonghaulClient) -> None:
    task = await mine.submit("sleep", {"seconds": 2, "steps": 8})
    seen = await watched(mine, task)
    # Polling, with its Retry-After of 5 s, would see the beginning and the end only.
    assert len({one.progress for one in seen if one.status is TaskStatus.PROCESSING}) >= 3
    assert seen[-1].status is TaskStatus.COMPLETED


async def test_a_key_gives_the_same_task_and_no_other_body(mine: LonghaulClient) -> None:
    first = await mine.submit("noop", {"id": 1}, idempotency_key="k")
    again = await mine.submit("noop", {"id": 1}, idempotency_key="k")
    assert (first.replayed, again.replayed) == (False, True)
    assert first.task_id == again.task_id
    with pytest.raises(ServiceProblem, match="idempotency-key-reused"):
        await mine.submit("noop", {"id": 2}, idempotency_key="k")
    assert [task.task_id async for task in mine.list()] == [first.task_id]


async def test_a_refusal_names_the_field_and_leaves_no_task(mine: LonghaulClient) -> None:
    with pytest.raises(ServiceProblem) as raised:
        await mine.submit("noop", {"id": "1"})
    assert (raised.value.slug, raised.value.status) == ("validation", 422)
    assert [error.pointer for error in raised.value.errors] == ["#/id"]
    assert raised.value.request_id
    assert [task async for task in mine.list()] == []


async def test_a_list_is_filtered_and_paged(mine: LonghaulClient) -> None:
    ids = [
        (await mine.submit("noop", {"id": number}, labels=["all", f"mod:{number % 2}"])).task_id for number in range(5)
    ]
    pages = [[task.task_id for task in page.items] async for page in mine.pages(label=["all"], page_size=2)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [task_id for page in pages for task_id in page] == ids[::-1]
    odd = [task.task_id async for task in mine.list(label=["all", "mod:1"])]
    assert odd == [ids[3], ids[1]]
    assert [task.task_id async for task in mine.list(action=["noop"], limit=3)] == ids[:1:-1]
    assert [task async for task in mine.list(action=["sleep"])] == []


async def test_an_unchanged_task_is_not_sent_again(mine: LonghaulClient) -> None:
    task = await mine.submit("noop", {"id": 1})
    [*_, last] = await watched(mine, task)
    assert await mine.status(task.task_id, etag=etag_of(last)) is None
    # Not the answer to the submission: a quick worker may have ended the task before that was written.
    older = last.model_copy(update={"seq": last.seq - 1})
    assert await mine.status(task.task_id, etag=etag_of(older)) == last


async def test_what_is_not_mine_is_not_there(mine: LonghaulClient, service: Service, tmp_path: Path) -> None:
    task = await mine.submit("noop", {"id": 1})
    async with LonghaulClient(service.base_url, service.token("a stranger")) as other:
        for task_id in (task.task_id, uuid4()):
            with pytest.raises(ServiceProblem, match="not-found"):
                await other.status(task_id)
            with pytest.raises(ServiceProblem, match="not-found"):
                await anext(other.watch(task_id))
            with pytest.raises(ServiceProblem, match="not-found"):
                await other.download(task_id, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


async def test_a_wrong_token_opens_nothing(service: Service) -> None:
    async with LonghaulClient(service.base_url, service.token()[:-4] + "AAAA") as client:
        with pytest.raises(ServiceProblem, match="unauthorized"):
            await client.submit("noop", {"id": 1})
        with pytest.raises(ServiceProblem, match="unauthorized"):
            await anext(client.watch(uuid4()))


async def test_a_task_token_opens_just_its_task(mine: LonghaulClient, service: Service) -> None:
    task = await mine.submit("sleep", {"seconds": 0.2, "steps": 2})
    other = await mine.submit("noop", {"id": 1})
    async with LonghaulClient(service.base_url, task.task_token) as client:
        [*_, last] = await watched(client, await client.status(task.task_id))
        assert last.status is TaskStatus.COMPLETED
        with pytest.raises(ServiceProblem, match="not-found"):
            await client.status(other.task_id)
        with pytest.raises(ServiceProblem, match="insufficient-scope"):
            _ = [task async for task in client.list()]


async def test_where_there_is_no_result_it_is_said_why(mine: LonghaulClient, tmp_path: Path) -> None:
    running = await mine.submit("sleep", {"seconds": 5, "steps": 5})
    with pytest.raises(ServiceProblem, match="not-finished"):
        await mine.download(running.task_id, tmp_path / "x")
    without = await mine.submit("noop", {"id": 1})
    await watched(mine, without)
    with pytest.raises(ServiceProblem, match="not-found"):
        await mine.download(without.task_id, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


async def test_a_watch_outlives_a_killed_api(
    own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path: Path
) -> None:
    async with (
        running_service(own_redis, rabbit_server, tmp_path) as own,
        LonghaulClient(own.base_url, own.token("a watcher")) as client,
    ):
        task = await client.submit("sleep", {"seconds": 4, "steps": 20})
        seen: list[StatusDocument] = []
        killed_at: int | None = None
        async with aclosing(client.watch(task)) as documents:
            async for document in documents:
                seen.append(document)
                if killed_at is None and document.progress > 0:
                    killed_at = document.progress
                    own.apis[0].kill()
                    await own.start_api()
    assert killed_at is not None
    assert killed_at < 100
    assert seen[-1].status is TaskStatus.COMPLETED
    assert [one.seq for one in seen] == sorted({one.seq for one in seen})
