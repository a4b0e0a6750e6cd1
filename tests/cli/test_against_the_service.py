"""The command line's journeys, and the demo's, against the true service."""

import asyncio
import json
import os
import sys
import zipfile
from asyncio.subprocess import PIPE
from pathlib import Path
from uuid import uuid4

import demo
from tests.support.service import BIN, Service


async def run(*command: str, directory: Path, **environment: str) -> tuple[int, str, str]:
    variables = {"PATH": os.environ["PATH"], **environment}
    process = await asyncio.create_subprocess_exec(*command, cwd=directory, env=variables, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_from_submit_to_result_by_the_shell(service: Service, subject: str, tmp_path: Path) -> None:
    async def longhaul(*words: str) -> tuple[int, str, str]:
        environment = {"LONGHAUL_URL": service.base_url, "LONGHAUL_TOKEN": service.token(subject)}
        return await run(str(BIN / "longhaul"), *words, directory=tmp_path, **environment)

    code, out, err = await longhaul(
        "submit", "generate_report", "id=1024", "--label", "a", "--watch", "--output", "json"
    )
    assert (code, err) == (0, "")
    documents = [json.loads(line) for line in out.splitlines()]
    assert documents[-1]["status"] == "COMPLETED"
    task_id = documents[0]["task_id"]

    code, out, err = await longhaul("result", task_id, "-o", "report.zip")
    assert (code, err) == (0, "")
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        assert "report.html" in archive.namelist()

    code, out, err = await longhaul("list", "--label", "a", "--status", "COMPLETED")
    assert (code, err) == (0, "")
    assert task_id in out

    code, out, err = await longhaul("status", task_id)
    assert (code, err) == (0, "")
    assert "status    COMPLETED 100 %" in out

    code, out, err = await longhaul("submit", "generate_report", "id=7")
    assert (code, out) == (2, "")
    assert "#/id" in err
    assert err.count("\n") == 1

    code, out, err = await longhaul("watch", str(uuid4()))
    assert (code, out) == (2, "")
    assert err.startswith("longhaul: not-found: ")


async def test_the_demo_completes(service: Service, subject: str, tmp_path: Path) -> None:
    tokens = {"alice": service.token(subject)}
    stack = {"base_url": "http://127.0.0.1:9", "nginx_url": service.base_url, "tokens": tokens}
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    script = str(Path(demo.__file__))
    code, out, err = await run(sys.executable, script, directory=tmp_path, LONGHAUL_RUN_DIR=str(tmp_path))
    assert (code, err) == (0, "")
    report = next(line.split()[1] for line in out.splitlines() if line.startswith("report "))
    assert b"</html>" in Path(report).read_bytes()[-100:]
