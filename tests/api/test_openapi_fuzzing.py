"""Schemathesis over the OpenAPI document, with all its checks: what the document says is so, and nothing is a 500."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from stack.servers import RabbitServer, RedisServer
from tests.support.service import BIN, Service, running_service

HOOKS = "tests.api.schemathesis_hooks"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def target(
    scratch_redis_server: RedisServer, redis: Redis, rabbit_server: RabbitServer, tmp_path: Path
) -> AsyncIterator[Service]:
    """A service of its own: what is submitted here may sleep for days."""
    async with running_service(scratch_redis_server, rabbit_server, tmp_path) as service:
        yield service


async def schemathesis(service: Service, directory: Path, *options: str, document: str = "") -> tuple[int, str]:
    """Run it; return its exit status and what it says.

    Args:
        service: The service that is asked.
        directory: Where it may leave files.
        options: Further options.
        document: Another OpenAPI document than the service's own.
    """
    process = await asyncio.create_subprocess_exec(
        BIN / "st", "run", document or f"{service.base_url}/openapi.json", "--url", service.base_url,
        "--header", f"Authorization: Bearer {service.token('schemathesis', ttl_seconds=7200)}",
        "--checks", "all", "--continue-on-failure", "--no-color",
        "--request-timeout", "30", *options,
        cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
    )  # fmt: skip
    try:
        output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output


async def test_what_the_document_says_is_so_and_what_it_does_not_is_noticed(target: Service, tmp_path: Path) -> None:
    """Always the same requests, as many as fit into a few seconds; `make fuzz` sends others."""
    options = ("--generation-deterministic", "--max-examples", "5", "--max-time", "8")
    status, output = await schemathesis(target, tmp_path, *options)
    assert status == 0, output
    async with httpx.AsyncClient(base_url=target.base_url) as client:
        document = (await client.get("/openapi.json")).json()
    del document["paths"]["/v1/workload/status/{task_id}"]["get"]["responses"]["404"]
    wrong = tmp_path / "wrong.json"  # the control: a document that does not tell everything
    wrong.write_text(json.dumps(document))
    one_path = ("--include-path", "/v1/workload/status/{task_id}", "--phases", "coverage")
    status, output = await schemathesis(target, tmp_path, *one_path, document=str(wrong))
    assert status == 1, output
    assert "Undocumented status code" in output


@pytest.mark.fuzz
async def test_what_the_document_says_is_so_for_five_minutes(target: Service, tmp_path: Path) -> None:
    options = ("--generation-database", "none", "--max-examples", "2000", "--max-time", "300")
    status, output = await schemathesis(target, tmp_path, *options)
    assert status == 0, output
