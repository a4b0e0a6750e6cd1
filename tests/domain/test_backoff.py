"""Delays between attempts."""

from datetime import timedelta
from random import Random

from app.domain.backoff import JITTER, retry_delay, scheduled_delay
from app.settings import WebhookSettings

SCHEDULE = [timedelta(seconds=seconds) for seconds in WebhookSettings().schedule_seconds]


def test_a_webhook_is_tried_for_about_sixty_hours() -> None:
    assert [round(wait.total_seconds()) for wait in SCHEDULE] == [5, 60, 300, 1800, 7200, 18000, 36000, 64800, 86400]
    assert timedelta(hours=59) < sum(SCHEDULE, timedelta(0)) < timedelta(hours=61)


def test_a_scheduled_wait_is_ten_percent_more_or_less_and_the_list_ends() -> None:
    random = Random(1)
    for failures, wait in enumerate(SCHEDULE, 1):
        drawn = [scheduled_delay(failures, schedule=SCHEDULE, random=random) for _ in range(200)]
        found = [one / wait for one in drawn if one is not None]
        assert len(found) == 200
        assert 1 - JITTER <= min(found) < 1 - 0.9 * JITTER
        assert 1 + 0.9 * JITTER < max(found) <= 1 + JITTER
    assert scheduled_delay(len(SCHEDULE) + 1, schedule=SCHEDULE, random=random) is None


def test_a_retry_draws_from_a_bound_that_doubles() -> None:
    base, cap, random = timedelta(seconds=2), timedelta(seconds=20), Random(1)
    for failures, bound in enumerate((2, 4, 8, 16, 20, 20), 1):
        drawn = [retry_delay(failures, base=base, cap=cap, random=random).total_seconds() for _ in range(300)]
        assert 0 <= min(drawn) < 0.1 * bound
        assert 0.9 * bound < max(drawn) <= bound
    assert retry_delay(10**6, base=base, cap=cap, random=random) <= cap
