"""The law of a task: the table says something of every status and event, and terminal is final but for a retry."""

from itertools import product

import pytest

from app.domain.lifecycle import TABLE, TERMINAL, Event, TaskStatus, after

LAW = {
    (TaskStatus.PENDING, Event.CLAIMED): TaskStatus.PROCESSING,
    (TaskStatus.PROCESSING, Event.CLAIMED): TaskStatus.PROCESSING,
    (TaskStatus.PROCESSING, Event.RELEASED): TaskStatus.PENDING,
    (TaskStatus.PROCESSING, Event.REAPED): TaskStatus.PENDING,
    (TaskStatus.PENDING, Event.CANCELLED): TaskStatus.CANCELLED,
    (TaskStatus.PROCESSING, Event.CANCELLED): TaskStatus.CANCELLED,
    (TaskStatus.FAILED, Event.RETRIED): TaskStatus.PENDING,
    (TaskStatus.CANCELLED, Event.RETRIED): TaskStatus.PENDING,
    (TaskStatus.PROCESSING, Event.SUCCEEDED): TaskStatus.COMPLETED,
    (TaskStatus.PROCESSING, Event.FAILED): TaskStatus.FAILED,
}


@pytest.mark.parametrize(("status", "event"), list(product(TaskStatus, Event)))
def test_every_event_has_its_outcome_in_every_status(status: TaskStatus, event: Event) -> None:
    assert after(status, event) == LAW.get((status, event))


@pytest.mark.parametrize("status", list(TaskStatus))
def test_only_a_retry_leads_out_of_a_terminal_status(status: TaskStatus) -> None:
    assert status.is_terminal == (status in TERMINAL)
    if status.is_terminal:
        assert all(after(status, event) is None for event in set(Event) - {Event.RETRIED})


def test_every_event_can_happen() -> None:
    assert {event for _, event in TABLE} == set(Event)


def test_every_task_can_still_end() -> None:
    """From every status that is not terminal, some events lead to an end."""
    for start in set(TaskStatus) - TERMINAL:
        reached = {start}
        for _ in TaskStatus:
            reached |= {TABLE[known, event] for known, event in TABLE if known in reached}
        assert reached & TERMINAL
