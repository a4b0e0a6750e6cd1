"""What every refusal must look like, in one place."""

from typing import Any

import httpx

from app.api.errors import STATUS
from app.api.pages import PROBLEMS


def problem_of(answer: httpx.Response, slug: str) -> dict[str, Any]:
    """Return the problem of a refusal, after holding it against all that the contract says of problems."""
    assert answer.status_code == STATUS[slug], (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{slug}", problem
    assert slug in PROBLEMS
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem["detail"].endswith("."), problem
    assert problem["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    if answer.status_code in (429, 503):
        assert problem["retry_after"] >= 1
        assert answer.headers["retry-after"] == str(problem["retry_after"])
    else:
        assert "retry_after" not in problem
    assert problem.keys() <= {
        "type", "title", "status", "detail", "instance", "request_id", "errors", "retry_after",
    }  # fmt: skip
    return problem


def pointers_of(answer: httpx.Response) -> list[str]:
    """Return the JSON Pointers that a 422 names."""
    problem = problem_of(answer, "validation")
    assert all(error.keys() == {"pointer", "detail"} for error in problem["errors"]), problem
    return [error["pointer"] for error in problem["errors"]]


def parameters_of(answer: httpx.Response) -> list[str]:
    """Return the query parameters that a 422 names."""
    problem = problem_of(answer, "validation")
    assert all(error.keys() == {"parameter", "detail"} for error in problem["errors"]), problem
    return [error["parameter"] for error in problem["errors"]]
