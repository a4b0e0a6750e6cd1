"""The check that every service of a session is held to finds what it is there for."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.support.leaks import leaks, secrets_of, told_by_arguments
from tests.support.service import Service


def test_a_secret_in_a_log_is_found(service: Service, tmp_path: Path) -> None:
    secrets = secrets_of(service.settings, *service.api_environment.values())
    assert len(secrets) >= 6, "two passwords of the worker, two of the API, the JWT secret, a key"
    for secret in secrets:
        log = tmp_path / "a.log"
        log.write_text(f"[INFO] started\n[INFO] with {secret}\n")
        assert leaks([log], secrets) == [f"{log}:2"]
    token = tmp_path / "token.log"
    token.write_text(f"[INFO] path=/x?token={service.token()}\n")
    assert leaks([token], []) == [f"{token}:1"]


def test_a_secret_in_arguments_is_found() -> None:
    waits = "import sys; print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", waits, "--password=open-sesame"]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        child.stdout.readline()  # Linux shows no arguments of a process that has just begun to execute
        assert told_by_arguments([child.pid], ["open-sesame"]) == [child.pid]
        assert told_by_arguments([child.pid], ["another"]) == []
    finally:
        child.communicate()


async def test_what_callers_send_wrongly_is_not_logged_either(service: Service, alice: httpx.AsyncClient) -> None:
    """A token in a query string, a broken one, a body that is refused: the session's end greps for all of it."""
    marker = "marker-of-a-payload-5a17c0de"
    token = service.token()
    body: dict[str, Any] = {"action": "noop", "id": 1, "labels": ["x"], "password": marker}
    answers = [
        await alice.get("/v1/workload", params={"access_token": token}),
        await alice.post("/v1/workload", json=body),
        await alice.post("/v1/workload", content=f'{{"action": "{marker}'.encode()),
        await alice.get("/v1/workload", headers={"Authorization": f"Bearer {token[:-3]}"}),
        await alice.post("/v1/workload", json={"action": marker}, headers={"Idempotency-Key": marker}),
    ]
    assert {answer.status_code for answer in answers} <= {200, 400, 401, 415, 422}
    assert leaks([service.directory / "api.log"], [marker, token]) == []
