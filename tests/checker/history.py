"""History: the evidence of one run, read from its directory. All times are seconds since the epoch, on one clock.

| file             | each line                                                                                       |
| ---------------- | ----------------------------------------------------------------------------------------------- |
| `run.json`       | seed, `lease_seconds`, `kinds`, `least`, `began`, `healed`, `drained` (null: it never was), …    |
| `clients.jsonl`  | what a caller asked and was told: `op`, `began`, `ended`, `code` (null: no answer), `document`   |
| `handlers.jsonl` | what a handler did, in this order: `what`, `task_id`, `mark`, `attempt`, `token`, `at`, …        |
| `faults.jsonl`   | what was broken: `kind`, `empties`, `alone`, `began`, `ended`, `failure` (it was not)            |
| `calm.jsonl`     | `at`, `living` tasks and waiting `messages`, when nothing was broken any more                    |
| `rows.jsonl`     | SQL's rows: `task_id`, `run`, `status`, `finished_at` (ms), `result_key`, `sha256`, `labels`, …  |
| `forgotten`, `refused`, `hashes`, `living`, `queues`, `files`: the rest of the stores, as `.jsonl`                |
| `logs/*.log`     | what the processes said                                                                         |
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
ROLLBACK: Final = "cut-aof-tail"
LATE: Final = frozenset({"stop-api", "hold", "latency"})
"""While one of these lasts, a reader may be told what was true before it began."""
"""The fault after which Redis is back with older data than it had."""
FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller asked, and what it was told."""

    op: str
    subject: str
    began: float
    ended: float
    code: int | None
    task_id: str = ""
    reader: str = ""
    label: str = ""
    key: str | None = None
    order: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def may_have_worked(self) -> bool:
        """Whether the answer does not say that nothing was done; a DELETE's 503 does not: it has several steps."""
        return self.code is None or self.code < 300 or self.code == 500 or (self.op == "delete" and self.code == 503)

    @property
    def until(self) -> float:
        """Until when it may have had its effect: without a clear answer, for ever."""
        return FOREVER if self.code is None or self.code >= 500 else self.ended

    @property
    def end(self) -> tuple[str, int] | None:
        """The end that was told: status, and when, in ms."""
        if self.document.get("status") not in ENDED:
            return None
        return self.document["status"], milliseconds(self.document["finished_at"])


@dataclass(frozen=True, slots=True)
class Doing:
    """What a handler did."""

    what: str
    task_id: str
    mark: str
    attempt: int
    token: int
    at: float
    step: int = 0
    began: float = 0.0
    accepted: bool = True
    engine: int = 0
    process: int = 0
    how: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was broken."""

    kind: str
    began: float
    ended: float
    step: int = 0
    empties: str = ""
    alone: bool = True
    failure: str = ""
    pid: int = 0

    def meets(self, since: float, until: float) -> bool:
        """Whether it fell into this time."""
        return self.began <= until and self.ended >= since


@dataclass(frozen=True, slots=True)
class Row:
    """How a run ended, as SQL has it."""

    task_id: str
    run: int
    status: str
    finished_at: int
    attempt: int = 0
    progress: int = 0
    seq: int = 0
    labels: tuple[str, ...] = ()
    result_key: str | None = None
    sha256: str | None = None
    error: str = ""


@dataclass
class History:
    """All of it."""

    run: dict[str, Any]
    asks: list[Ask]
    doings: list[Doing]
    faults: list[Fault]
    calm: list[dict[str, Any]]
    rows: list[Row]
    forgotten: dict[str, float]
    hashes: dict[str, dict[str, Any]]
    living: list[str]
    queues: dict[str, int]
    files: dict[str, dict[str, str]]
    logs: dict[str, str]

    # --- by task

    @cached_property
    def asks_of(self) -> dict[str, list[Ask]]:
        """What was asked about each task, in the order of the answers."""
        return _grouped(sorted(self.asks, key=lambda ask: ask.ended))

    @cached_property
    def doings_of(self) -> dict[str, list[Doing]]:
        """What was done for each task, in the order in which it was written."""
        return _grouped(self.doings)

    @cached_property
    def rows_of(self) -> dict[str, list[Row]]:
        """Each task's rows, by run."""
        return _grouped(sorted(self.rows, key=lambda row: row.run))

    @cached_property
    def submissions(self) -> dict[str, list[Ask]]:
        """The requests of each submission, by its label."""
        found: dict[str, list[Ask]] = defaultdict(list)
        for ask in self.asks:
            if ask.op in ("submit", "repeat"):
                found[ask.label].append(ask)
        return found

    @cached_property
    def promised(self) -> dict[str, Ask]:
        """The first 202 of each task."""
        found: dict[str, Ask] = {}
        for label in self.submissions:
            for ask in sorted(self.submissions[label], key=lambda ask: ask.ended):
                if ask.code == 202:
                    found.setdefault(ask.task_id, ask)
        return found

    @cached_property
    def deleted(self) -> dict[str, Ask]:
        """The first 204 of each task."""
        found: dict[str, Ask] = {}
        for ask in sorted(self.asks, key=lambda ask: ask.ended):
            if ask.op == "delete" and ask.code == 204:
                found.setdefault(ask.task_id, ask)
        return found

    def order_of(self, task_id: str) -> dict[str, Any]:
        """What was ordered; empty if nobody was told that task's id."""
        ask = self.promised.get(task_id)
        return ask.order if ask else {}

    def may_be_deleted_from(self, task_id: str) -> float:
        """From when on a DELETE may have taken the task away."""
        return min(
            (ask.began for ask in self.asks_of.get(task_id, ()) if ask.op == "delete" and ask.may_have_worked),
            default=FOREVER,
        )

    def retries_of(self, task_id: str) -> list[Ask]:
        """The retries that may have begun a run."""
        return [ask for ask in self.asks_of.get(task_id, ()) if ask.op == "retry" and ask.may_have_worked]

    def told_ends(self, task_id: str) -> dict[tuple[str, int], float]:
        """The ends that anybody was told, and when first."""
        found: dict[tuple[str, int], float] = {}
        for ask in self.asks_of.get(task_id, ()):
            if ask.end:
                found.setdefault(ask.end, ask.ended)
        return found

    # --- by time

    @cached_property
    def broken(self) -> list[Fault]:
        """The faults that broke something."""
        return [fault for fault in self.faults if not fault.failure]

    def redis_lost_data(self, since: float, until: float) -> bool:
        """Whether Redis lost anything in this time."""
        return any(fault.empties == "redis" and fault.meets(since, until) for fault in self.faults)

    def on_its_way_since(self, told: Ask) -> float:
        """Return since when a document may have been on its way to its reader, Redis having lost it meanwhile."""
        soonest = told.began - 1
        late = [fault for fault in self.faults if fault.kind in LATE and fault.meets(soonest, told.ended)]
        return min([soonest, *(fault.began for fault in late)])

    def redis_went_back(self, since: float, until: float) -> bool:
        """Whether Redis came back with older data in this time."""
        return any(fault.kind == ROLLBACK and fault.meets(since, until) for fault in self.faults)


def read(directory: Path) -> History:
    """Read the evidence of a run.

    Raises:
        OSError, ValueError: It cannot be read; nothing can be said then.
    """
    run = json.loads((directory / "run.json").read_text())
    logs = {path.name: path.read_text(errors="replace") for path in sorted((directory / "logs").glob("*.log"))}
    return History(
        run=run,
        asks=[_made(Ask, line) for line in _lines(directory / "clients.jsonl")],
        doings=[_made(Doing, line) for line in _lines(directory / "handlers.jsonl")],
        faults=[_made(Fault, line) for line in _lines(directory / "faults.jsonl")],
        calm=[line for line in _lines(directory / "calm.jsonl") if "living" in line],
        rows=[
            _made(Row, {**line, "labels": tuple(line.get("labels") or ())}) for line in _lines(directory / "rows.jsonl")
        ],
        forgotten={line["task_id"]: line["at"] for line in _lines(directory / "forgotten.jsonl")},
        hashes={line["task_id"]: line for line in _lines(directory / "hashes.jsonl")},
        living=[line["task_id"] for line in _lines(directory / "living.jsonl")],
        queues={line["queue"]: line["messages"] for line in _lines(directory / "queues.jsonl")},
        files={line["key"]: line for line in _lines(directory / "files.jsonl")},
        logs=logs,
    )


def milliseconds(text: str) -> int:
    """Read a moment of RFC 3339."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def _made(kind: Any, line: dict[str, Any]) -> Any:
    known = kind.__dataclass_fields__
    made = {name: value for name, value in line.items() if name in known}
    if kind is Ask:
        made.setdefault("code", 200)
        made.setdefault("ended", made["began"])
    return kind(**made)


def _grouped(items: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if item.task_id:
            found[item.task_id].append(item)
    return found
