"""What may be sent again, and when."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client import ClientError, ServiceProblem, UnexpectedAnswer, Unreachable
from app.client.retrying import QUICK_TRIES, Backoff, Retries, may_repeat
from app.domain.problem import Problem


def problem(status: int, slug: str, retry_after: int | None = 5) -> ServiceProblem:
    return ServiceProblem(Problem(type=f"/problems/{slug}", title="t"), status=status, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "idempotent", "not_idempotent"),
    [
        (problem(429, "rate-limited"), True, True),
        (problem(429, "quota-exceeded"), True, True),
        (problem(503, "queue-full"), True, True),
        (problem(503, "broker-unavailable"), True, True),
        (problem(503, "store-unavailable"), True, False),
        (problem(503, "overloaded"), True, False),
        (problem(503, "queue-full", None), False, False),
        (problem(500, "internal", None), True, False),
        (problem(502, "bad-gateway", None), True, False),
        (problem(504, "gateway-timeout", None), True, False),
        (problem(422, "validation", None), False, False),
        (problem(401, "unauthorized", None), False, False),
        (problem(404, "not-found", None), False, False),
        (Unreachable("refused", outcome_is_unknown=False), True, True),
        (Unreachable("cut", outcome_is_unknown=True), True, False),
        (UnexpectedAnswer("another server"), False, False),
    ],
)
def test_nothing_that_could_start_the_work_twice_is_repeated(
    error: ClientError, idempotent: bool, not_idempotent: bool
) -> None:
    assert may_repeat(error, is_idempotent=True) is idempotent
    assert may_repeat(error, is_idempotent=False) is not_idempotent


def test_a_wait_is_never_shorter_than_retry_after() -> None:
    delay = Retries(timedelta(seconds=60), clock=lambda: 0.0).delay_after(
        problem(503, "queue-full", 20), is_idempotent=False
    )
    assert delay is not None
    assert 20 < delay <= 20.5


def test_a_wait_beyond_the_budget_is_not_begun() -> None:
    retries = Retries(timedelta(seconds=10), clock=lambda: 0.0)
    assert retries.delay_after(problem(429, "rate-limited", 11), is_idempotent=True) is None


def test_the_budget_counts_from_the_start_of_the_call() -> None:
    now = [100.0]
    retries = Retries(timedelta(seconds=10), clock=lambda: now[0])
    assert retries.delay_after(problem(429, "rate-limited", 5), is_idempotent=True) is not None
    now[0] += 6
    assert retries.delay_after(problem(429, "rate-limited", 5), is_idempotent=True) is None


def test_a_service_that_is_not_there_is_tried_a_few_times_only() -> None:
    retries = Retries(timedelta(hours=1), clock=lambda: 0.0)
    error = Unreachable("refused", outcome_is_unknown=False)
    delays = [retries.delay_after(error, is_idempotent=True) for _ in range(QUICK_TRIES + 1)]
    assert None not in delays[:-1]
    assert delays[-1] is None


@given(tries=st.integers(min_value=0, max_value=10_000))
def test_a_delay_is_jittered_and_bounded(tries: int) -> None:
    backoff = Backoff(first_seconds=0.5, limit_seconds=30.0, tries=tries)
    delay = backoff.next_delay()
    assert 0.25 <= delay <= 30.0
    assert delay <= 0.5 * 2.0 ** min(tries, 32)
    backoff.reset()
    assert backoff.next_delay() <= 0.5
