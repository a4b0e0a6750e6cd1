"""The scripts against their model: whatever happens to a task, in whatever order, both must say and hold the same."""

import random
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from stack.servers import RedisServer
from tests.store.stage import Stage
from tests.store.stories import play

THOROUGHLY: Final = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
ANSWERS: Final = {
    *(("create", "CREATED"), ("rerun", "CREATED"), ("queued", "QUEUED"), ("queued", "ALIVE"), ("abort", "ABORTED")),
    *(("claim", "CLAIMED"), ("claim", "EXHAUSTED"), ("claim", "ASK"), ("claim", "PARK"), ("claim", "WAIT")),
    *(("promote", "PROMOTED"), ("beat", "HELD"), ("commit", "HELD"), ("restore", "HELD"), ("restore", "LOST")),
    *(
        ("release", "RELEASED"),
        ("requeue", "REQUEUED"),
        ("settle", "SETTLED"),
        ("cancel", "WAITING"),
        ("forget", "FORGOTTEN"),
    ),
    *(("redrive", "PUBLISH"), ("renew_epoch", "RENEWED")),
}
"""What must have been heard at least once, or the machine no longer gets to where it matters."""


@pytest.fixture
def stage(scratch_redis_server: RedisServer) -> Iterator[Stage]:
    """A Redis and a model."""
    stage = Stage(scratch_redis_server.url)
    yield stage
    stage.close()


def test_the_scripts_do_what_their_model_does(stage: Stage, request: pytest.FixtureRequest) -> None:
    """Invariants 2, 4 and 6, and every reply; repeat a failure with `--hypothesis-seed`."""
    chosen = request.config.getoption("--hypothesis-seed")
    number = int(chosen) if chosen and chosen != "random" else random.getrandbits(32)
    try:
        play(stage, THOROUGHLY, number=number)
    except BaseException as error:
        error.add_note(f"repeat it with --hypothesis-seed={number}")
        raise
    assert stage.answers >= ANSWERS, f"never heard: {ANSWERS - stage.answers}; --hypothesis-seed={number}"
