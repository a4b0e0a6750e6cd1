"""`python -m tests.checker DIRECTORY`: the verdict on one run.

Exit status: 0 nothing breaks a promise, 1 something does, 2 void: too little was tried for a long run, 3 unreadable.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.checker.figures import by_kind, percentiles, takeovers, why_void
from tests.checker.history import History, read
from tests.checker.rules import Violation, check

SHOWN = 3
"""Of how many violations the whole history of the task is shown."""


def main() -> int:
    """Judge the run in the directory that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.checker", description=__doc__)
    parser.add_argument("directory", type=Path)
    try:
        history = read(parser.parse_args().directory)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"the evidence cannot be read: {error!r}")
        return 3
    violations, excused = check(history)
    for line in report(history, violations, excused):
        print(line)
    if violations:
        return 1
    return 2 if why_void(history) else 0


def report(history: History, violations: list[Violation], excused: Counter[str]) -> Iterator[str]:
    """What is to be read."""
    yield from _faults(history)
    yield from _work(history)
    for excuse, count in sorted(excused.items()):
        yield f"excused: {excuse}: {count}"
    for violation in violations:
        yield f"VIOLATION {violation.rule}: {violation.sentence}" + f" ({violation.task_id})" * bool(violation.task_id)
    for task_id in list(dict.fromkeys(one.task_id for one in violations if one.task_id))[:SHOWN]:
        yield ""
        yield from story(history, task_id)
    void = why_void(history)
    for line in void:
        yield f"VOID {line}"
    yield f"{len(violations)} violations" + (", and the run is void" if void else "")


def _faults(history: History) -> Iterator[str]:
    yield f"{'fault':22} {'count':>5} {'failed':>6} {'in flight (least, mean)':>24}  PENDING PROCESSING (sums)"
    total = 0
    for name, kind in by_kind(history).items():
        total += kind.count
        seen = kind.in_flight
        flight = f"{min(seen)}, {sum(seen) / len(seen):.0f}" if seen else "-"
        pending, processing = kind.states["PENDING"], kind.states["PROCESSING"]
        yield f"{name:22} {kind.count:5} {kind.failures:6} {flight:>24}  {pending:7} {processing:10}"
    yield f"{total} faults in all, {sum(not fault.alone for fault in history.broken)} of them two at once"


def _work(history: History) -> Iterator[str]:
    codes = Counter(str(ask.code or "no answer") for ask in history.asks if ask.op == "submit" and ask.code != 202)
    ends = Counter(row.status for row in history.rows)
    attempts = sum(doing.what == "begin" for doing in history.doings)
    refused = sum(doing.what == "step" and not doing.accepted for doing in history.doings)
    yield (
        f"{len(history.promised)} tasks promised; not accepted: "
        + (", ".join(f"{count} of {code}" for code, count in sorted(codes.items())) or "none")
    )
    yield (
        f"{len(history.rows)} rows: "
        + ", ".join(f"{count} {status}" for status, count in sorted(ends.items()))
        + f"; {len(history.deleted)} deleted; {attempts} attempts; the sink refused {refused} late effects"
    )
    lease = history.run["lease_seconds"]
    yield f"take-over after SIGKILL of a worker (lease {lease} s): {percentiles(takeovers(history))}"


def story(history: History, task_id: str) -> Iterator[str]:
    """All that is known of a task, in the order of time, with the faults of that time."""
    events: list[tuple[float, str]] = []
    for ask in history.asks_of.get(task_id, ()):
        shown = " ".join(f"{name}={ask.document[name]}" for name in ask.document if name not in ("task_id", "labels"))
        code = "no answer" if ask.code is None else ask.code
        events.append((ask.ended, f"{ask.subject} {ask.op} since {ask.began:.3f}: {code} {ask.reader} {shown}"))
    for doing in history.doings_of.get(task_id, ()):
        said = f"handler {doing.what} step={doing.step} attempt={doing.attempt} token={doing.token}"
        events.append((doing.at, said + (" REFUSED by the sink" if not doing.accepted else "")))
    events += [
        (row.finished_at / 1000, f"row run={row.run} {row.status} {row.error} {row.result_key or ''}")
        for row in history.rows_of.get(task_id, ())
    ]
    if task_id in history.forgotten:
        events.append((history.forgotten[task_id], "row forgotten"))
    if events:
        first, last = min(events)[0] - 3, max(events)[0] + 10
        events += [
            (fault.began, f"--- {fault.kind} until {fault.ended:.3f} {fault.failure}")
            for fault in history.faults
            if fault.meets(first, last)
        ]
    yield f"task {task_id}, ordered as {history.order_of(task_id)}"
    for at, said in sorted(events):
        yield f"  {at:.3f} {said}"
    yield f"  Redis in the end: {history.hashes.get(task_id, 'nothing')}"


if __name__ == "__main__":
    sys.exit(main())
