"""Parts of a result (RFC 9110, section 14): a broken download goes on where it broke off."""

import hashlib

import httpx
import pytest

from tests.api.problems import problem_of
from tests.api.staging import Staging

CONTENT = bytes(range(100))
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'

PARTS = {
    "bytes=0-0": (0, 1), "bytes=99-99": (99, 100), "bytes=0-99": (0, 100), "bytes=10-19": (10, 20),
    "bytes=90-": (90, 100), "bytes=0-": (0, 100), "bytes=99-": (99, 100), "bytes=-1": (99, 100), "bytes=-30": (70, 100),
    "bytes=-100": (0, 100), "bytes=-1000": (0, 100), "bytes=50-1000": (50, 100), "BYTES=1-2": (1, 3),
    "bytes=0-999999999999999999": (0, 100), "bytes=007-008": (7, 9),
}  # fmt: skip
WHOLE = [
    "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=1-2,5-6", "bytes=1-2, 5-6", "bytes=--1",
    "bytes=1--2", "bytes=1.5-2", "bytes=+1-2", "items=1-2", "1-2", "bytes 1-2", "bytes:1-2", "bytes=1-2;",
    "bytes=0x1-2", "bytes=" + ",".join(["0-"] * 1000),
]  # fmt: skip
OUTSIDE = ["bytes=100-", "bytes=100-100", "bytes=100-200", "bytes=999999999999999999-", "bytes=-0"]


@pytest.fixture
async def path(staging: Staging) -> str:
    """The path of a result of 100 bytes."""
    return f"/v1/workload/{await staging.completed(CONTENT)}/result"


@pytest.mark.parametrize("wanted", PARTS)
async def test_a_part_is_sent_as_such(wanted: str, alice: httpx.AsyncClient, path: str) -> None:
    start, end = PARTS[wanted]
    answer = await alice.get(path, headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/100"
    assert answer.headers["content-length"] == str(end - start)
    whole = await alice.get(path)
    for name in ("etag", "repr-digest", "content-disposition", "content-type", "vary", "cache-control"):
        assert answer.headers[name] == whole.headers[name]  # of the file, not of the part
    head = await alice.head(path, headers={"Range": wanted})
    assert (head.status_code, head.headers["content-range"]) == (206, answer.headers["content-range"])


@pytest.mark.parametrize("wanted", WHOLE)
async def test_what_is_no_single_range_is_answered_with_the_whole(
    wanted: str, alice: httpx.AsyncClient, path: str
) -> None:
    answer = await alice.get(path, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("wanted", OUTSIDE)
async def test_a_range_outside_of_the_file_is_refused_with_its_size(
    wanted: str, alice: httpx.AsyncClient, path: str
) -> None:
    answer = await alice.get(path, headers={"Range": wanted})
    problem_of(answer, "range-not-satisfiable")
    assert answer.headers["content-range"] == "bytes */100"
    assert answer.headers["accept-ranges"] == "bytes"


async def test_no_part_of_an_empty_file_can_be_had(alice: httpx.AsyncClient, staging: Staging) -> None:
    path = f"/v1/workload/{await staging.completed(b'')}/result"
    for wanted in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        answer = await alice.get(path, headers={"Range": wanted})
        problem_of(answer, "range-not-satisfiable")
        assert answer.headers["content-range"] == "bytes */0"


async def test_the_rest_is_sent_only_if_the_file_is_still_the_same(alice: httpx.AsyncClient, path: str) -> None:
    part = await alice.get(path, headers={"Range": "bytes=60-", "If-Range": ETAG})
    assert (part.status_code, part.content) == (206, CONTENT[60:])


@pytest.mark.parametrize(
    "condition", ['"other"', f"W/{ETAG}", "*", "", ETAG.strip('"'), "Tue, 24 Nov 2026 20:00:00 GMT", f'{ETAG}, "x"']
)
async def test_otherwise_the_whole_is_sent(condition: str, alice: httpx.AsyncClient, path: str) -> None:
    """A weak tag, or a time, does not prove that the bytes are the same."""
    for wanted in ("bytes=60-", "bytes=100-"):
        answer = await alice.get(path, headers={"Range": wanted, "If-Range": condition})
        assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_a_download_put_together_of_parts_is_the_file(alice: httpx.AsyncClient, path: str) -> None:
    got = b""
    while len(got) < len(CONTENT):
        answer = await alice.get(path, headers={"Range": f"bytes={len(got)}-{len(got) + 16}", "If-Range": ETAG})
        assert answer.status_code == 206
        got += answer.content
    assert hashlib.sha256(got).hexdigest() == ETAG.strip('"')
