"""Figures: how much was tried in a run: tasks, faults, what was in flight at each, and how fast was taken over."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

from tests.checker.history import Fault, History

KILLS: Final = frozenset({"kill-worker"})
RAN: Final = frozenset({"begin", "step", "commit"})


@dataclass(slots=True)
class OfKind:
    """What was seen of one kind of fault."""

    count: int = 0
    with_enough: int = 0
    """At how many of them enough was in flight."""
    failures: int = 0
    in_flight: list[int] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)


def states_at(history: History, at: float) -> Counter[str]:
    """How many promised tasks were in which state at a moment, as callers and handlers knew it."""
    states: Counter[str] = Counter()
    for task_id in history.promised:
        for since, until in _lives(history, task_id):
            if since <= at < until:
                doings = [doing for doing in history.doings_of.get(task_id, ()) if since <= doing.at < at]
                states["PROCESSING" if doings and doings[-1].what in RAN else "PENDING"] += 1
    return states


def _lives(history: History, task_id: str) -> Iterator[tuple[float, float]]:
    """From when to when each run of a task lived."""
    begins = [history.promised[task_id].ended]
    begins += [ask.ended for ask in history.retries_of(task_id) if ask.code == 202]
    ends = [row.finished_at / 1000 for row in history.rows_of.get(task_id, ())]
    if not ends:  # deleted: what anybody was told
        ends = sorted(moment / 1000 for _, moment in history.told_ends(task_id))
    for number, begin in enumerate(begins):
        yield begin, ends[number] if number < len(ends) else history.run["ended"]


def by_kind(history: History) -> dict[str, OfKind]:
    """What was seen of each kind, in the order of the run's list of kinds."""
    enough = (history.run.get("least") or {"in_flight": 20})["in_flight"]
    found: dict[str, OfKind] = {kind: OfKind() for kind in history.run["kinds"]}
    for fault in history.faults:
        kind = found.setdefault(fault.kind, OfKind())
        if fault.failure:
            kind.failures += 1
            continue
        states = states_at(history, fault.began)
        kind.count += 1
        kind.in_flight.append(states.total())
        kind.with_enough += states.total() >= enough
        kind.states += states
    return found


def why_void(history: History) -> list[str]:
    """Say what a long run has had too little of; nothing if it is not void, or not long."""
    least = history.run.get("least")
    if not least:
        return []
    enough, needed = least["in_flight"], least["of_each_kind"]
    return [
        f"{name}: {kind.with_enough} times with {enough} tasks in flight, {needed} are needed"
        for name, kind in by_kind(history).items()
        if kind.with_enough < needed
    ]


def takeovers(history: History) -> list[float]:
    """For each attempt whose worker was killed, and nothing else at that time: seconds until the next one began."""
    found = []
    lease = history.run["lease_seconds"]
    by_engine: dict[int, set[str]] = defaultdict(set)
    for doing in history.doings:
        if doing.what == "begin":
            by_engine[doing.engine].add(doing.task_id)
    for kill in history.broken:
        if kill.kind not in KILLS or not _is_alone(history, kill, lease):
            continue
        for task_id in by_engine[kill.pid]:
            doings = history.doings_of[task_id]
            before = [doing for doing in doings if doing.at < kill.began]
            begin = next((doing for doing in reversed(before) if doing.what == "begin"), None)
            if not before or before[-1].what not in RAN or begin is None or begin.engine != kill.pid:
                continue
            after = [doing for doing in doings if doing.at > kill.began and doing.what == "begin"]
            if after:
                found.append(after[0].at - kill.began)
    return sorted(found)


def _is_alone(history: History, fault: Fault, lease: float) -> bool:
    return not any(
        other.meets(fault.began - lease, fault.began + lease + 5)
        for other in history.faults
        if other is not fault
        and other.kind not in ("duplicate", "reorder", "kill-child", "stop-child", "out-of-memory")
    )


def percentiles(values: list[float]) -> str:
    """The middle, the 99th of a hundred, and the greatest, in words."""
    if len(values) < 2:
        return f"{len(values)} seen"
    hundredths = quantiles(values, n=100, method="inclusive")
    return f"{len(values)} seen, p50 {hundredths[49]:.1f} s, p99 {hundredths[98]:.1f} s, at most {values[-1]:.1f} s"
