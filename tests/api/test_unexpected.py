"""What nobody expected: a 500 that says nothing of the inside, with the id under which it is logged."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.api.errors import STATUS
from app.api.pages import PROBLEMS
from app.domain import errors
from app.domain.errors import OutcomeUnknown
from app.main import create_app
from tests.api.problems import problem_of
from tests.support.service import Service


@pytest.fixture
async def application(service: Service) -> AsyncIterator[FastAPI]:
    """The API in this process, on the shared service's servers, so that a part of it can be broken."""
    app = create_app(service.settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(application: FastAPI, service: Service, subject: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    headers = {"Authorization": f"Bearer {service.token(subject)}"}
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as made:
        yield made


class Broken:
    """A part whose every method raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: Any, **__: Any) -> None:
            raise self._error

        return fail


async def test_an_error_that_nobody_caught_is_a_500_without_its_words(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    broken = Broken(RuntimeError("the password is 1234"))
    application.state.services = replace(application.state.services, statuses=broken)
    with capture_logs() as lines:
        answer = await client.get(f"/v1/workload/status/{uuid4()}", headers={"X-Request-ID": "the-id"})
        head = await client.head(f"/v1/workload/status/{uuid4()}", headers={"X-Request-ID": "the-id"})
    problem = problem_of(answer, "internal")
    assert problem["request_id"] == "the-id"
    assert "1234" not in answer.text
    assert "Traceback" not in answer.text
    assert (head.status_code, head.headers["x-request-id"]) == (500, "the-id")
    failures = [line for line in lines if line["event"] == "a request failed"]
    assert len(failures) == 2  # once each
    assert all(line["log_level"] == "error" and line["exc_info"] for line in failures)


async def test_an_unknown_outcome_says_that_the_task_may_run(application: FastAPI, client: httpx.AsyncClient) -> None:
    application.state.services = replace(application.state.services, submissions=Broken(OutcomeUnknown()))
    problem = problem_of(await client.post("/v1/workload", json={"action": "noop", "id": 1}), "internal")
    assert "may run" in problem["detail"]
    assert "same Idempotency-Key" in problem["detail"]


def test_every_slug_of_the_domain_has_a_status_and_a_page() -> None:
    of_a_task = {"undecryptable"}  # the error of a task, never an answer
    slugs = {kind.slug for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "slug")}
    assert slugs - of_a_task <= STATUS.keys() <= PROBLEMS.keys()
