"""The guide's receivers, run as they stand: they take what is ours, and nothing else."""

import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

from app.webhooks.destination import Destinations
from app.webhooks.signature import new_secret, signed_headers
from stack.ports import free_port
from stack.processes import Process
from tests.support.waiting import wait_until
from tests.webhooks.test_posting import Names
from workers.webhooks.posting import Poster

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
PROGRAMS = {"python": ("receive.py", sys.executable), "javascript": ("receive.mjs", "node")}
BODY = '{"type":"workload.completed","task_id":"1","data":{"message":"größe"}}'.encode()
OTHER = BODY.replace(b'"1"', b'"2"')


def example(language: str) -> str:
    """Return the guide's program in that language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(text)


@pytest.mark.parametrize("language", PROGRAMS)
async def test_an_example_verifies(language: str, tmp_path: Path) -> None:
    name, program = PROGRAMS[language]
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on this machine")
    secret, old, port = new_secret(), new_secret(), free_port()
    (tmp_path / name).write_text(example(language))
    process = Process(
        [found, tmp_path / name],
        log=tmp_path / "output.log",
        environment={**os.environ, "LONGHAUL_WEBHOOK_SECRET": secret, "PORT": str(port)},
        die_with_parent=True,
    )
    try:

        async def listens() -> bool:
            assert process.is_running, (tmp_path / "output.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await wait_until(listens, timeout=60, what="the receiver")
        wide = timedelta(seconds=30)
        rule = Destinations(allow=["127.0.0.0/8"], ports=[], development=False)
        poster = Poster(rule, Names(), timeout=wide, connect_timeout=wide)

        async def status(
            signed: bytes,
            sent: bytes,
            *,
            secrets: list[str],
            at: float = 0,
            changed: Mapping[str, str] = MappingProxyType({}),
        ) -> int:
            headers = signed_headers(signed, webhook_id="msg_1", timestamp=int(time.time() + at), secrets=secrets)
            headers = {name: value for name, value in {**headers, **changed}.items() if value}
            return (await poster.post(f"http://127.0.0.1:{port}/", headers, sent)).status

        assert await status(BODY, BODY, secrets=[secret]) == 204
        assert await status(BODY, BODY, secrets=[old, secret]) == 204  # while a rotation overlaps
        assert await status(BODY, BODY, secrets=[secret, old]) == 204
        assert await status(BODY, OTHER, secrets=[secret]) == 401
        assert await status(BODY, BODY, secrets=[old]) == 401
        assert await status(BODY, BODY, secrets=[secret], at=-600) == 401
        assert await status(BODY, BODY, secrets=[secret], at=600) == 401
        assert await status(BODY, BODY, secrets=[secret], changed={"webhook-id": "msg_2"}) == 401
        assert await status(BODY, BODY, secrets=[secret], changed={"webhook-signature": ""}) == 401
        assert await status(BODY, BODY, secrets=[secret], changed={"webhook-signature": "v1,x v2,y v1"}) == 401
    finally:
        process.end(patience=10)


def test_the_guide_has_five_languages() -> None:
    assert len(re.findall(r"^### (Python|JavaScript|Go|Ruby|Java)$", GUIDE, re.MULTILINE)) == 5
