"""`make demo`: it says 0 only when everything was verified, and unpacks nothing dangerous."""

import asyncio
import hashlib
import io
import json
import os
import stat
import sys
import zipfile
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

import demo
from app.domain.task import ResultDescription
from tests.client.faulty import RESULT, SOCKET, SUBMIT, TASK, Faulty, completed, document, file, problem, says, streams

SCRIPT = Path(demo.__file__)
REPORT = b"<h1>report</h1>"


def zipped(*members: tuple[str, bytes], mode: int = 0) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(member, content)
    return archive.getvalue()


@pytest.fixture
def run_directory(tmp_path: Path, faulty: Faulty) -> Path:
    stack = {"base_url": faulty.url, "nginx_url": None, "tokens": {"alice": "a.l.ice"}}
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    return tmp_path


async def run_demo(run_directory: Path) -> tuple[int, str, str]:
    """Run it as `make demo` does, from another directory."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        cwd="/",
        env={"PATH": os.environ["PATH"], "LONGHAUL_RUN_DIR": str(run_directory)},
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    return process.returncode, out.decode(), err.decode()


def task_making(faulty: Faulty, content: bytes) -> None:
    faulty.on(SUBMIT, says(202, document() | {"task_token": "t.o.k"}))
    faulty.on(SOCKET, streams({"type": "status", "task": completed(content=content, filename="report.zip")}))
    faulty.on(f"GET /v1/workload/status/{TASK}", says(200, completed(content=content)))
    faulty.on(RESULT, file(content))


async def test_the_whole_way_ends_at_the_report(run_directory: Path, faulty: Faulty) -> None:
    content = zipped(("report.html", REPORT), ("data/table.parquet", b"PAR1"))
    task_making(faulty, content)
    code, out, err = await run_demo(run_directory)
    assert (code, err) == (0, "")
    directory = run_directory / "demo" / str(TASK)
    assert (directory / "report.zip").read_bytes() == content
    assert (directory / "report" / "report.html").read_bytes() == REPORT
    assert str(directory / "report" / "report.html") in out
    assert f"curl -s -H 'Authorization: Bearer t.o.k' {faulty.url}/v1/workload/status/{TASK}" in out
    [request] = faulty.calls(SUBMIT)
    assert json.loads(request.body) == {"action": "generate_report", "id": 1024, "labels": ["demo"]}
    assert request.headers["authorization"] == "Bearer a.l.ice"


@pytest.mark.parametrize(
    ("content", "says_why"),
    [
        (zipped(("other.html", REPORT)), "holds no report.html"),
        (b"no zip", "cannot be unpacked"),
        (zipped(("../report.html", REPORT)), "no plain file inside it"),
    ],
)
async def test_a_result_that_is_no_report_fails(
    run_directory: Path, faulty: Faulty, content: bytes, says_why: str
) -> None:
    task_making(faulty, content)
    code, _, err = await run_demo(run_directory)
    assert code == 1
    assert err.startswith("demo failed: ")
    assert says_why in err
    assert err.count("\n") == 1


async def test_a_failed_task_fails_the_demo(run_directory: Path, faulty: Faulty) -> None:
    faulty.on(SUBMIT, says(202, document() | {"task_token": "t.o.k"}))
    error = {"type": "/problems/timeout", "title": "Timeout"}
    faulty.on(SOCKET, streams({"type": "status", "task": document("FAILED", 2, error=error)}))
    code, _, err = await run_demo(run_directory)
    assert (code, err) == (1, "demo failed: the task is FAILED: timeout: Timeout\n")


async def test_a_refusal_fails_the_demo(run_directory: Path, faulty: Faulty) -> None:
    faulty.on(SUBMIT, problem("unauthorized", 401))
    code, _, err = await run_demo(run_directory)
    assert (code, err) == (1, "demo failed: unauthorized: Unauthorized\n")


async def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path) -> None:
    code, _, err = await run_demo(tmp_path)
    assert code == 1
    assert err == f"demo failed: no stack is running: {tmp_path}/stack.json is not there; start one with `make up`\n"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"nginx_url": 1, "tokens": {}}', '{"nginx_url": null, "base_url": null}']
)
def test_a_stack_file_that_cannot_be_used_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(demo.DemoFailed, match="cannot be used"):
        demo.read_stack(tmp_path)


@pytest.mark.parametrize("name", ["/etc/cron.d/x", "../x", "a/../../x", "C:\\x", "..\\x", "a:b"])
def test_nothing_is_unpacked_when_one_name_leads_out(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(("report.html", REPORT), (name, b"evil")))
    with pytest.raises(demo.DemoFailed, match="no plain file"):
        demo.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_a_link_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(("report.html", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777))
    with pytest.raises(demo.DemoFailed, match="no plain file"):
        demo.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(("report.html", bytes(2000))))
    monkeypatch.setattr(demo, "MOST_BYTES", 1000)
    with pytest.raises(demo.DemoFailed, match="more than"):
        demo.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_members_are_noticed(tmp_path: Path) -> None:
    content = bytearray(zipped(("report.html", REPORT * 100)))
    content[45] ^= 0xFF
    archive = tmp_path / "a.zip"
    archive.write_bytes(content)
    with pytest.raises(demo.DemoFailed, match="cannot be unpacked"):
        demo.unpack(archive, tmp_path / "out")


def test_sound_members_are_unpacked_below_the_directory(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(("report.html", REPORT), ("empty/", b""), ("charts/one.svg", b"<svg/>")))
    files = demo.unpack(archive, tmp_path / "out")
    assert [str(path.relative_to(tmp_path / "out")) for path in files] == ["report.html", "charts/one.svg"]
    assert demo.report_in(files).read_bytes() == REPORT


def test_the_check_is_of_size_and_digest(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"abc")
    promised = ResultDescription(size=3, content_type="x/y", filename="made", sha256=hashlib.sha256(b"abc").hexdigest())
    demo.check(made, promised)
    for wrong in ({"size": 4}, {"sha256": "0" * 64}):
        with pytest.raises(demo.DemoFailed, match="not what the status document says"):
            demo.check(made, promised.model_copy(update=wrong))
