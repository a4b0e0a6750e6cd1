"""Breadth first through every state that a scenario can reach; then backwards from every good end.

The first trace to a violation is a shortest one. That a promise can no longer be kept is judged only when the graph is
complete: a state is alive if steps that happen by themselves lead from it to a good end.
"""

import gc
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.protocol import faults, housekeeping, running, submission, user
from tests.protocol.canonical import canonical, hear
from tests.protocol.invariants import broken, is_good_end
from tests.protocol.rules import ALL, Rules
from tests.protocol.scenarios import Scenario
from tests.protocol.state import State, Step
from tests.protocol.stores import World


@dataclass
class Found:
    """What a search saw."""

    states: int = 0
    transitions: int = 0
    complete: bool = False
    seconds: float = 0.0
    violations: dict[str, list[str]] = field(default_factory=dict)
    """The name of what is broken -> the steps to it."""


def steps_from(w: World, s: State) -> Iterator[Step]:
    """Every step that anybody can take."""
    yield from running.steps(w, s, 0)
    yield from running.steps(w, s, 1)
    for j in range(len(s.requests)):
        yield from submission.steps(w, s, j)
    yield from user.steps(w, s)
    yield from housekeeping.steps(w, s)
    if s.budget.faults:
        yield from faults.steps(w, s)


def _paid(s: State) -> State:
    return s._replace(budget=s.budget._replace(faults=s.budget.faults - 1))


class Search:
    """One search; `run` it once."""

    def __init__(self, scenario: Scenario, rules: Rules = ALL) -> None:
        self.world = World(rules, scenario)
        first = scenario.first()
        self.states = [first]
        self.number = {first: 0}
        self.came_from: list[tuple[int, str]] = [(-1, "")]
        self.must_from: list[list[int]] = [[]]  # for each state, those from which a step that must happen leads to it
        self.found = Found()

    def run(self, *, seconds: float = 600, states: int | None = None, first_hit: bool = False) -> Found:
        """Search until all is seen, or so many seconds or states are over, or, if so asked, something is found."""
        gc.disable()  # millions of tuples, none in a circle: the collector would walk them in vain
        try:
            return self._run(seconds, states, first_hit=first_hit)
        finally:
            gc.enable()

    def _run(self, seconds: float, states: int | None, *, first_hit: bool) -> Found:
        began, k, found = time.monotonic(), 0, self.found
        while k < len(self.states) and not (first_hit and found.violations):
            if k % 1024 == 0 and (time.monotonic() - began > seconds or (states and len(self.states) > states)):
                break
            self._look_at(k)
            k += 1
        found.states = len(self.states)
        found.complete = k == len(self.states)
        if found.complete:
            self._judge_liveness()
        found.seconds = time.monotonic() - began
        return found

    def _look_at(self, k: int) -> None:
        s = self.states[k]
        for name in broken(self.world, s):
            self._report(name, k)
        for kind, label, reached, wrong in steps_from(self.world, s):
            for name in wrong:
                self._report(name, k, label)
            self.found.transitions += 1
            swept = housekeeping.sweep(self.world, _paid(reached) if kind == "fault" else reached)
            after = canonical(hear(swept))
            n = self.number.setdefault(after, len(self.states))
            if n == len(self.states):
                self.states.append(after)
                self.came_from.append((k, label))
                self.must_from.append([])
            if kind == "must":
                self.must_from[n].append(k)

    def _report(self, name: str, k: int, *last: str) -> None:
        if name not in self.found.violations:
            self.found.violations[name] = [*self._trace(k), *last]

    def _trace(self, k: int) -> list[str]:
        labels = []
        while k > 0:
            k, label = self.came_from[k]
            labels.append(label)
        return labels[::-1]

    def _judge_liveness(self) -> None:
        alive = {k for k, s in enumerate(self.states) if is_good_end(s)}
        todo = deque(alive)
        while todo:
            for k in self.must_from[todo.popleft()]:
                if k not in alive:
                    alive.add(k)
                    todo.append(k)
        dead = next((k for k in range(len(self.states)) if k not in alive), None)
        if dead is not None:
            self._report("NO_GOOD_END", dead, str(self.states[dead]))
