"""The protocol keeps its promises, and each of its rules is needed for that."""

import pytest

from tests.protocol.controls import CLEAN, CONTROLS, KEPT, PAIRS
from tests.protocol.invariants import MEANINGS
from tests.protocol.rules import NAMES, why, without
from tests.protocol.scenarios import Scenario
from tests.protocol.search import Search

TOO_LONG = 5_000
"""States: the scenario of a control that has more is searched to the end by `python -m tests.protocol --clean` only."""

FOUND_LATE = frozenset({"settle_lifts_a_lower_run"})
"""After 150,000 states, which take half a minute."""

SCENARIOS = sorted({*CLEAN, *(control.scenario for control in CONTROLS.values())}, key=str)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_whole_protocol_breaks_no_promise_and_can_always_keep_them(scenario: Scenario) -> None:
    """Every reachable state is looked at, and from each a good end can be reached."""
    found = Search(scenario).run(states=None if scenario in CLEAN else TOO_LONG)
    assert found.complete or scenario not in CLEAN
    assert not found.violations, "\n".join(f"{name}: {trace}" for name, trace in found.violations.items())


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[pytest.mark.slow] if rule in FOUND_LATE else []) for rule in CONTROLS]
)
def test_a_rule_that_is_switched_off_is_missed(rule: str) -> None:
    """The scenario finds that the rule is off: a search that could not fail would prove nothing."""
    control = CONTROLS[rule]
    found = Search(control.scenario, without(rule)).run(first_hit=True)
    assert control.finds in found.violations, f"{rule} ({why(rule)}) is not missed in {control.scenario}"


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_a_rule_that_stands_in_for_another_is_missed_with_it(pair: tuple[str, str]) -> None:
    """Either rule alone is enough in this scenario; without both it is found."""
    control = PAIRS[pair]
    for rule in pair:
        assert not Search(control.scenario, without(rule)).run().violations
    assert control.finds in Search(control.scenario, without(*pair)).run(first_hit=True).violations


def test_every_rule_has_its_control_or_a_reason() -> None:
    """No rule stands in the protocol unexamined."""
    assert set(CONTROLS) | set(KEPT) == set(NAMES)
    assert not set(CONTROLS) & set(KEPT)


def test_every_invariant_is_found_broken_by_some_control() -> None:
    """An invariant that no control can break would be a dead letter."""
    assert {control.finds for control in CONTROLS.values()} == set(MEANINGS)
