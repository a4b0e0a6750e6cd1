"""The tutorial is run as it stands: its files are written, its commands are given, and its result is compared."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from stack.ports import free_port
from stack.processes import Process
from stack.servers import RabbitServer, RedisServer
from tests.support.service import own_vhost
from tests.support.waiting import wait_until

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"(?:\*\*`(?P<file>[^`]+)`\*\*\n\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
ADDRESS = "127.0.0.1:8000"
INSTALL, PREPARE, RUN, *SUBMIT = range(6)
"""The blocks of commands, in the order of the page."""


@dataclass
class Reader:
    """Somebody who follows the page, in an empty directory, with servers on other ports."""

    directory: Path
    address: str
    environment: dict[str, str]

    def __post_init__(self) -> None:
        blocks = list(BLOCK.finditer(TUTORIAL.read_text()))
        self.files = {block["file"]: block["text"] for block in blocks if block["file"]}
        self.commands = [block["text"] for block in blocks if block["language"] == "sh"]
        (self.shown,) = [block["text"] for block in blocks if block["language"] == "text"]

    def write_files(self) -> None:
        for name, text in self.files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def start(self, line: str) -> Process:
        """Give a command in a terminal of its own."""
        return Process(
            ["bash", "-c", f"exec {line}"],
            log=self.directory / "output.log",
            environment=self.environment,
            directory=self.directory,
            die_with_parent=True,
        )

    async def give(self, *commands: str) -> str:
        """Give commands in one terminal; return what they print."""
        script = "set -eu -o pipefail\n" + "\n".join(commands).replace(ADDRESS, self.address)
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            cwd=self.directory,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(60):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, f"{script}\n{output.decode()}\n{(self.directory / 'output.log').read_text()}"
        return output.decode()

    async def wait_until_ready(self) -> None:
        async def ready() -> bool:
            async with httpx.AsyncClient(base_url=f"http://{self.address}") as client:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

        await wait_until(ready, timeout=30, what="the API's readiness")


@pytest.fixture
def reader(own_redis: RedisServer, rabbit_server: RabbitServer, tmp_path: Path) -> Reader:
    port = free_port()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        # Instead of `pip install`, which would change this environment.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "acme-jobs"), os.environ.get("PYTHONPATH")])),
        "LONGHAUL_REDIS_URL": own_redis.service_url,
        "LONGHAUL_AMQP_URL": own_vhost(rabbit_server),
        "LONGHAUL_API__PORT": str(port),
        "LONGHAUL_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "LONGHAUL_RESULTS_URL": f"file://{tmp_path}/results",
    }
    return Reader(tmp_path, f"127.0.0.1:{port}", environment)


@pytest.fixture
def terminals() -> Iterator[list[Process]]:
    running: list[Process] = []
    yield running
    for process in running:
        process.end(patience=5)


async def test_the_tutorial_leads_to_a_result(reader: Reader, terminals: list[Process]) -> None:
    assert len(reader.commands) == INSTALL + 1 + len(["prepare", "run"]) + len(SUBMIT)
    assert reader.commands[INSTALL] == "pip install --editable acme-jobs\n"
    reader.write_files()

    prepared = await reader.give(reader.commands[PREPARE])
    assert prepared == "The configuration is in order.\ndeclared\n"

    terminals += map(reader.start, reader.commands[RUN].splitlines())
    assert len(terminals) == 2
    await reader.wait_until_ready()

    printed = await reader.give(*(reader.commands[index] for index in SUBMIT))
    assert '"COMPLETED"' in printed
    assert printed.endswith(reader.shown)

    other = [reader.commands[index] for index in SUBMIT[:2]]
    order = re.compile(r"--data '.*?'")
    assert order.search(other[0])
    printed = await reader.give(order.sub("""--data '{"action": "count_down", "start": 1}'""", other[0]), other[1])
    assert '"COMPLETED"' in printed

    refused = order.sub("""--data '{"action": "count_down", "start": 0}'""", other[0])
    with pytest.raises(AssertionError, match="#/start"):
        await reader.give(refused.rstrip() + " || { cat task.json; exit 1; }")


async def test_every_file_of_the_package_is_named_in_its_pyproject(reader: Reader) -> None:
    import tomllib  # noqa: PLC0415  # only here

    project = tomllib.loads(reader.files["acme-jobs/pyproject.toml"])
    assert project["tool"]["setuptools"]["packages"] == ["acme_jobs"]
    assert {name for name in reader.files if name.endswith(".py")} == {
        f"acme-jobs/acme_jobs/{name}.py" for name in ("__init__", "contracts", "work")
    }
