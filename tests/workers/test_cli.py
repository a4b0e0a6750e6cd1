"""`worker-engine` as its operator meets it: help, checks, one line for what is wrong, and exit statuses."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import __version__
from stack.ports import free_port
from stack.servers import RabbitServer, RedisServer
from tests.support.service import BIN, configuration, own_vhost

NOWHERE = f"redis://127.0.0.1:{free_port()}/0"
NOBODY = f"amqp://127.0.0.1:{free_port()}/"
EX_CONFIG = 78


async def run(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run worker-engine; return its exit status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        BIN / "worker-engine",
        *arguments,
        env=os.environ | dict(environment or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def written(directory: Path, **changes: Any) -> Path:
    """Write a configuration; return its path."""
    values = configuration(NOWHERE, NOBODY, directory, free_port()) | changes
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


async def test_help_names_the_options_and_shows_an_example() -> None:
    status, output, _ = await run("--help")
    assert status == 0
    for words in ("--config", "--check-config", "--version", "Example: worker-engine --config"):
        assert words in output


async def test_the_version_is_printed() -> None:
    assert await run("--version") == (0, f"worker-engine {__version__}\n", "")


async def test_a_good_configuration_is_checked_without_any_server(tmp_path: Path) -> None:
    status, output, errors = await run("--config", written(tmp_path), "--check-config")
    assert (status, output, errors) == (0, "The configuration is in order.\n", "")


@pytest.mark.parametrize("check", [["--check-config"], []])
async def test_an_unknown_key_stops_the_start_with_one_line_and_the_right_one(tmp_path: Path, check: list[str]) -> None:
    status, output, errors = await run("--config", written(tmp_path, lease_secnds=3), *check)
    assert (status, output) == (EX_CONFIG, "")
    assert errors == "worker-engine: lease_secnds: unknown key, did you mean 'lease_seconds'?\n"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"handlers": ["no.such.module"]}, "handlers: no.such.module cannot be imported (No module named 'no')"),
        ({"handlers": ["workers.job"]}, "handlers: workers.job marks no function with @handles"),
        ({"handlers": ["broken_handlers"]}, "handlers: broken_handlers cannot be imported (NameError: name 'oh'"),
        ({"handlers": ["wrong_handlers"]}, "handlers: wrong_handlers cannot be imported (TypeError: @handles takes"),
        ({"handlers": ["workers.handlers.noop"] * 2}, "handlers: two of them handle 'noop'"),
        ({"queues": {"report_gen": {}, "bench": {}}}, "queues: 'transform' is missing, and an action needs it"),
    ],
)
async def test_handlers_and_queues_that_do_not_fit_stop_the_start_with_one_line(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "broken_handlers.py").write_text("oh\n")
    (tmp_path / "wrong_handlers.py").write_text(
        "from workers import handles\n\n@handles\nasync def work(job, p): ...\n"
    )
    config = written(tmp_path, **changes)
    status, output, errors = await run("-c", config, "--check-config", environment={"PYTHONPATH": str(tmp_path)})
    assert (status, output) == (EX_CONFIG, "")
    assert errors.startswith(f"worker-engine: {sentence}")
    assert errors.count("\n") == 1


async def test_a_file_that_is_not_there_is_one_line() -> None:
    status, _, errors = await run("--config", "/no/such/file.yaml")
    assert (status, errors) == (EX_CONFIG, "worker-engine: /no/such/file.yaml: No such file or directory\n")


async def test_a_redis_that_does_not_answer_is_one_line_and_status_1(tmp_path: Path) -> None:
    status, _, errors = await run("--config", written(tmp_path))
    assert status == 1
    assert errors.startswith("worker-engine: Redis does not answer: ")
    assert errors.count("\n") == 1


async def test_queues_that_are_not_declared_are_one_line_that_says_what_to_do(
    tmp_path: Path, redis_server: RedisServer, rabbit_server: RabbitServer
) -> None:
    config = written(tmp_path, redis_url=redis_server.service_url, amqp_url=own_vhost(rabbit_server))
    status, _, errors = await run("--config", config)
    assert status == EX_CONFIG
    assert errors.startswith("worker-engine: ")
    assert errors.endswith("run `longhaul admin declare`\n")
    assert errors.count("\n") == 1
