"""Downloading a result: what comes with the file, and why there may be none."""

import hashlib
from base64 import b64encode
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from tests.api.problems import problem_of
from tests.api.staging import Staging
from tests.support.service import Service

CONTENT = bytes(range(256)) * 4
DIGEST = hashlib.sha256(CONTENT)


def path_of(task_id: object) -> str:
    """Return the path of a task's result."""
    return f"/v1/workload/{task_id}/result"


async def test_the_file_comes_with_all_that_describes_it(alice: httpx.AsyncClient, staging: Staging) -> None:
    answer = await alice.get(path_of(await staging.completed(CONTENT, filename="a b.bin")))
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "application/x-test"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"] == 'attachment; filename="a b.bin"'
    assert answer.headers["etag"] == f'"{DIGEST.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{b64encode(DIGEST.digest()).decode()}:"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization"


@pytest.mark.parametrize("content_type", ["text/csv", "text/html; charset=iso-8859-1", "application/zip"])
async def test_the_type_is_the_one_that_was_saved(
    content_type: str, alice: httpx.AsyncClient, staging: Staging
) -> None:
    """No charset is added: only who wrote the file knows it."""
    task_id = await staging.completed(CONTENT, content_type=content_type)
    for answer in (await alice.get(path_of(task_id)), await alice.head(path_of(task_id))):
        assert answer.headers["content-type"] == content_type


@pytest.mark.parametrize(
    "filename",
    [
        "plain.bin",
        "a b.bin",
        'a"b.bin',
        "a\\b.bin",
        "50%.bin",
        "Zürich €.bin",
        "日本.bin",
        "a\r\nX-Evil: 1.bin",
        "a;b.bin",
    ],
)
async def test_any_name_arrives_and_none_breaks_the_header(
    filename: str, alice: httpx.AsyncClient, staging: Staging
) -> None:
    """RFC 6266: a quoted name of plain characters for all, and the exact one beside it where they differ."""
    answer = await alice.get(path_of(await staging.completed(CONTENT, filename=filename)))
    assert "x-evil" not in answer.headers
    value = answer.headers["content-disposition"]
    disposition, _, rest = value.partition("; ")
    assert disposition == "attachment"
    plain, _, exact = rest.partition("; filename*=UTF-8''")
    assert plain.startswith('filename="')
    assert plain.endswith('"')
    assert not set(plain[10:-1]) & set('"\\%\r\n')
    assert (unquote(exact) if exact else plain[10:-1]) == filename


async def test_an_empty_file_is_a_file(alice: httpx.AsyncClient, staging: Staging) -> None:
    answer = await alice.get(path_of(await staging.completed(b"")))
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "0"


async def test_a_large_file_comes_whole(alice: httpx.AsyncClient, staging: Staging) -> None:
    content = hashlib.sha256(b"x").digest() * 100_000
    answer = await alice.get(path_of(await staging.completed(content)))
    assert answer.content == content


async def test_where_there_is_no_file_it_is_said_why(alice: httpx.AsyncClient, staging: Staging) -> None:
    processing, _ = await staging.processing()
    for task_id in (await staging.pending(), processing):
        problem_of(await alice.get(path_of(task_id)), "not-finished")
    problem_of(await alice.get(path_of(await staging.failed())), "conflict")
    problem_of(await alice.get(path_of(await staging.completed())), "not-found")


async def test_a_removed_file_is_gone(service: Service, alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.completed(CONTENT)
    [file] = (Path(urlsplit(service.settings.results_url).path) / str(task_id)).iterdir()
    etag = (await alice.get(path_of(task_id))).headers["etag"]
    file.unlink()
    for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": etag}):
        problem_of(await alice.get(path_of(task_id), headers=headers), "gone")
    assert (await alice.head(path_of(task_id))).status_code == 410
    # Its task is still told.
    assert (await alice.get(f"/v1/workload/status/{task_id}")).json()["status"] == "COMPLETED"


async def test_a_file_is_nobody_elses(bob: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.completed(CONTENT)
    for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": "*"}):
        answer = await bob.get(path_of(task_id), headers=headers)
        problem_of(answer, "not-found")
        assert CONTENT[:4] not in answer.content


async def test_a_known_file_is_not_sent_again(alice: httpx.AsyncClient, staging: Staging) -> None:
    task_id = await staging.completed(CONTENT)
    etag = f'"{DIGEST.hexdigest()}"'
    for value in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        for headers in ({"If-None-Match": value}, {"If-None-Match": value, "Range": "bytes=0-1"}):
            answer = await alice.get(path_of(task_id), headers=headers)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
    assert (await alice.get(path_of(task_id), headers={"If-None-Match": '"x"'})).status_code == 200
