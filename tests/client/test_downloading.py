"""A result file arrives whole and proven, or not at all."""

import base64
import hashlib
from pathlib import Path

import pytest

from app.client import LonghaulClient, ResultCorrupt, ServiceProblem, UnexpectedAnswer, Unreachable, downloading
from app.client.downloading import filename_of, sha256_in
from app.domain.task import StatusDocument
from tests.client.faulty import (
    CONTENT,
    DIGEST,
    RESULT,
    STATUS,
    TASK,
    Faulty,
    completed,
    document,
    file,
    problem,
    says,
)

PART = f"made.bin.{DIGEST[:12]}.part"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "made.bin"


@pytest.fixture(autouse=True)
def finished(faulty: Faulty) -> None:
    faulty.on(STATUS, says(200, completed()))


def left_behind(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


async def test_the_file_is_what_was_promised(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(RESULT, file())
    told: list[tuple[int, int]] = []
    described = await client.download(TASK, target, on_bytes=lambda there, size: told.append((there, size)))
    assert target.read_bytes() == CONTENT
    assert (described.sha256, described.size) == (DIGEST, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert left_behind(target) == ["made.bin"]
    assert faulty.calls(RESULT)[0].headers["accept-encoding"] == "identity"


async def test_a_cut_connection_is_resumed_where_it_broke(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(RESULT, file(cut_after=3_000_000), file(cut_after=500_000), file(cut_after=0), file())
    await client.download(TASK, target)
    assert target.read_bytes() == CONTENT
    first, *others = faulty.calls(RESULT)
    assert "range" not in first.headers
    for other in others:
        assert other.headers["if-range"] == f'"{DIGEST}"'
        assert int(other.headers["range"].removeprefix("bytes=").removesuffix("-")) > 0


async def test_a_download_of_yesterday_is_resumed_too(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    target.with_name(PART).write_bytes(CONTENT[:1000])
    faulty.on(RESULT, file())
    await client.download(TASK, target)
    assert target.read_bytes() == CONTENT
    assert faulty.calls(RESULT)[0].headers["range"] == "bytes=1000-"


async def test_one_that_only_lacked_its_name_asks_for_nothing(
    client: LonghaulClient, faulty: Faulty, target: Path
) -> None:
    target.with_name(PART).write_bytes(CONTENT)
    await client.download(TASK, target)
    assert target.read_bytes() == CONTENT
    assert faulty.calls(RESULT) == []


@pytest.mark.parametrize("rest", [b"damaged", CONTENT + b"too long", bytes(len(CONTENT))])
async def test_a_damaged_rest_is_thrown_away(client: LonghaulClient, faulty: Faulty, target: Path, rest: bytes) -> None:
    target.with_name(PART).write_bytes(rest)
    faulty.on(RESULT, file())
    await client.download(TASK, target)
    assert target.read_bytes() == CONTENT


async def test_a_server_without_ranges_starts_over(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(RESULT, file(cut_after=2_500_000), file(ranges=False))
    await client.download(TASK, target)
    assert target.read_bytes() == CONTENT


async def test_another_content_is_refused_and_nothing_is_left(
    client: LonghaulClient, faulty: Faulty, target: Path
) -> None:
    target.write_bytes(b"what was there before")
    faulty.on(RESULT, file(CONTENT[:-1] + b"x"))
    with pytest.raises(ResultCorrupt, match="sha256"):
        await client.download(TASK, target)
    assert target.read_bytes() == b"what was there before"
    assert left_behind(target) == ["made.bin"]


async def test_more_bytes_than_promised_are_not_taken(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(RESULT, file(CONTENT + b"x"))
    with pytest.raises(ResultCorrupt, match="more than the promised"):
        await client.download(TASK, target)
    assert left_behind(target) == []


async def test_another_digest_is_noticed_before_the_first_byte(
    client: LonghaulClient, faulty: Faulty, target: Path
) -> None:
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    faulty.on(RESULT, file(Repr_Digest=f"sha-512=:AA==:, sha-256=:{other}:"))
    with pytest.raises(ResultCorrupt, match="another file"):
        await client.download(TASK, target)
    assert left_behind(target) == []


async def test_a_wrong_range_is_refused(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    target.with_name(PART).write_bytes(CONTENT[:1000])
    faulty.on(RESULT, says(206, CONTENT[999:], Content_Range=f"bytes 999-{len(CONTENT) - 1}/{len(CONTENT)}"))
    with pytest.raises(UnexpectedAnswer, match="range"):
        await client.download(TASK, target)
    assert left_behind(target) == [PART]


async def test_a_compressed_answer_is_refused(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(RESULT, file(Content_Encoding="gzip"))
    with pytest.raises(UnexpectedAnswer, match="compressed"):
        await client.download(TASK, target)


async def test_a_busy_service_is_waited_for(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(RESULT, problem("store-unavailable", 503, retry_after=1), file())
    await client.download(TASK, target)
    assert target.read_bytes() == CONTENT


async def test_a_connection_that_never_brings_anything_is_given_up(
    client: LonghaulClient, faulty: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "FRUITLESS_TRIES", 2)
    faulty.on(RESULT, file(cut_after=1_000_000), file(cut_after=0))
    with pytest.raises(Unreachable):
        await client.download(TASK, target)
    assert len(faulty.calls(RESULT)) == 3, "one that brought something, and two that did not"
    assert left_behind(target) == [PART], "what came is kept for the next call"


@pytest.mark.parametrize(
    ("slug", "status"), [("gone", 410), ("unauthorized", 401), ("range-not-satisfiable", 416), ("not-found", 404)]
)
async def test_a_refusal_in_the_middle_is_final(
    client: LonghaulClient, faulty: Faulty, target: Path, slug: str, status: int
) -> None:
    faulty.on(RESULT, file(cut_after=2_000_000), problem(slug, status))
    with pytest.raises(ServiceProblem, match=slug):
        await client.download(TASK, target)
    assert not target.exists()


async def test_a_task_without_a_result_says_why(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(STATUS, says(200, document("PROCESSING", 2)))
    faulty.on(RESULT, problem("not-finished", 409))
    with pytest.raises(ServiceProblem, match="not-finished"):
        await client.download(TASK, target)
    assert left_behind(target) == []


async def test_an_empty_file_is_a_file(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(STATUS, says(200, completed(content=b"")))
    faulty.on(RESULT, file(b""))
    await client.download(TASK, target)
    assert target.read_bytes() == b""


async def test_a_digest_that_is_none_makes_no_file_name(client: LonghaulClient, faulty: Faulty, target: Path) -> None:
    faulty.on(STATUS, says(200, completed(sha256="/../../x")))
    with pytest.raises(UnexpectedAnswer, match="sha256"):
        await client.download(TASK, target)


async def test_a_directory_that_is_not_there_is_the_callers_error(client: LonghaulClient, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await client.download(TASK, tmp_path / "no" / "made.bin")


@pytest.mark.parametrize(
    ("offered", "name"),
    [
        ("report.zip", "report.zip"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("../..", f"{TASK}.result"),
        (".bashrc", "bashrc"),
        ("", f"{TASK}.result"),
        ("a\x1b[2Jb", "a[2Jb"),
    ],
)
def test_an_offered_name_leads_nowhere_else(offered: str, name: str) -> None:
    assert filename_of(StatusDocument.model_validate(completed(filename=offered))) == name


def test_a_digest_is_read_from_its_header() -> None:
    encoded = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    assert sha256_in(f"sha-256=:{encoded}:") == DIGEST
    assert sha256_in(f"md5=:AAAA:, sha-256=:{encoded}:;p=1") == DIGEST
    assert sha256_in("") is None
    assert sha256_in("sha-256=:nonsense:") is None
