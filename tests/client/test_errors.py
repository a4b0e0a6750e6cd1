"""Problems become exceptions that say everything the service said; other answers are told apart."""

import httpx
import pytest

from app.client import ServiceProblem, UnexpectedAnswer
from app.client.errors import error_of_answer, error_of_connection

REQUEST = httpx.Request("POST", "https://longhaul.example/v1/workload?secret=1")


def answer(status: int, content: object, **headers: str) -> httpx.Response:
    named = {"Content-Type": "application/problem+json; charset=utf-8"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return httpx.Response(status, json=content, headers=named, request=REQUEST)


def test_a_problem_keeps_all_its_parts() -> None:
    body = {
        "type": "/problems/validation",
        "title": "Not what is expected",
        "status": 422,
        "detail": "The body does not fit.",
        "request_id": "abc",
        "errors": [{"pointer": "#/id", "detail": "must be an integer"}],
        "a_member_of_tomorrow": True,
    }
    error = error_of_answer(answer(422, body))
    assert isinstance(error, ServiceProblem)
    assert (error.slug, error.status, error.detail, error.request_id) == (
        "validation",
        422,
        "The body does not fit.",
        "abc",
    )
    assert [one.pointer for one in error.errors] == ["#/id"]
    assert str(error) == "validation: The body does not fit. (#/id: must be an integer)"
    assert not error.outcome_is_unknown


def test_headers_fill_what_the_body_leaves_out() -> None:
    body = {"type": "/problems/queue-full", "title": "Full"}
    error = error_of_answer(answer(503, body, Retry_After="7", X_Request_ID="r-1"))
    assert isinstance(error, ServiceProblem)
    assert (error.retry_after, error.request_id, str(error)) == (7, "r-1", "queue-full: Full")


@pytest.mark.parametrize("value", ["", "soon", "-3", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_counts_as_none(value: str) -> None:
    body = {"type": "/problems/queue-full", "title": "Full"}
    response = answer(503, body)
    response.headers["Retry-After"] = value
    error = error_of_answer(response)
    assert isinstance(error, ServiceProblem)
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("status", "slug", "unknown"),
    [
        (500, "internal", True),
        (502, "bad-gateway", True),
        (503, "store-unavailable", True),
        (503, "broker-unavailable", False),
        (503, "queue-full", False),
        (429, "rate-limited", False),
        (422, "validation", False),
    ],
)
def test_it_is_told_whether_something_may_have_happened(status: int, slug: str, unknown: bool) -> None:
    error = error_of_answer(answer(status, {"type": f"/problems/{slug}", "title": "t"}))
    assert isinstance(error, ServiceProblem)
    assert error.outcome_is_unknown is unknown


@pytest.mark.parametrize("status", [204, 301, 404, 502])
def test_an_answer_that_is_no_problem_is_from_something_else(status: int) -> None:
    response = httpx.Response(status, html="<h1>Hello</h1>", request=REQUEST)
    error = error_of_answer(response)
    assert isinstance(error, UnexpectedAnswer)
    assert "text/html" in str(error)
    assert "secret" not in str(error)


def test_a_problem_without_its_members_is_unexpected() -> None:
    assert isinstance(error_of_answer(answer(500, {"nothing": 1})), UnexpectedAnswer)


def test_a_decoding_error_is_not_a_broken_connection() -> None:
    error = error_of_connection(httpx.DecodingError("bad gzip"), "http://here/")
    assert isinstance(error, UnexpectedAnswer)


@pytest.mark.parametrize(
    ("kind", "unknown"),
    [(httpx.ConnectError, False), (httpx.ConnectTimeout, False), (httpx.ReadTimeout, True), (httpx.ReadError, True)],
)
def test_only_before_the_connection_stands_is_the_outcome_known(
    kind: type[httpx.TransportError], unknown: bool
) -> None:
    error = error_of_connection(kind(""), "http://here/")
    assert getattr(error, "outcome_is_unknown", None) is unknown
    assert str(error).startswith("http://here/")
