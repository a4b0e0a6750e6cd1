"""Every guard in the scripts is held by a test: with any one taken out, the comparison with the model goes red."""

from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from app.domain.errors import StoreUnavailable
from stack.servers import RedisServer
from tests.store.mutants import MUTANTS, Mutant
from tests.store.stage import Stage
from tests.store.stories import play

UNTIL_IT_IS_FOUND: Final = settings(
    max_examples=1000,
    stateful_step_count=50,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
SAMPLE: Final = 10
"""One mutant of so many is tried by `make test`, the others are marked `slow`. The sixth of ten are quickly found."""


@pytest.fixture(scope="module")
def stage(scratch_redis_server: RedisServer) -> Iterator[Stage]:
    """A Redis and a model."""
    stage = Stage(scratch_redis_server.url)
    yield stage
    stage.close()


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=f"{at}-{mutant}", marks=[] if at % SAMPLE == 6 else [pytest.mark.slow])
        for at, mutant in enumerate(MUTANTS)
    ],
)
def test_without_this_guard_the_comparison_goes_red(mutant: Mutant, stage: Stage) -> None:
    """RELIABILITY.md 4: the mutation pass."""
    stage.play(mutant.texts())
    # Red is also a document that cannot be read, and a script that breaks off.
    with pytest.raises((AssertionError, AttributeError, LookupError, TypeError, ValueError, StoreUnavailable)):
        play(stage, UNTIL_IT_IS_FOUND, number=0)
