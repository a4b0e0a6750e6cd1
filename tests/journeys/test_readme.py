"""The README's session, run as it stands there."""

import asyncio
import json
import os
import re
from pathlib import Path

from tests.support.service import Service

ROOT = Path(__file__).parents[2]


async def test_the_session_of_the_readme_runs(service: Service, tmp_path: Path, subject: str) -> None:
    """Its shell lines are taken out of the text; only the address is that of the test's service."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    start, download = (block.replace("http://127.0.0.1:8080", service.base_url) for block in blocks)
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run/stack.json").write_text(json.dumps({"tokens": {"alice": service.token(subject)}}))

    document = json.loads(await run(start, tmp_path))
    assert document["action"] == "generate_report"
    async with service.client(subject) as client:
        assert (await service.ended(client, document["task_id"], timeout=90))["status"] == "COMPLETED"

    first_line = start.splitlines()[0]
    await run(f"{first_line}\nTASK={document['task_id']}\n{download}", tmp_path)
    assert (tmp_path / "report-1024.zip").stat().st_size > 1_000_000


async def run(lines: str, directory: Path) -> str:
    """Run shell lines; return what they print."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", lines, cwd=directory, env=dict(os.environ), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
