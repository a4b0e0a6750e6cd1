"""The checker finds what is wrong: a clean history passes, and each doctored one fails by the rule that it breaks."""

import ast
import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.checker.figures import by_kind, states_at, takeovers
from tests.checker.history import History, read
from tests.checker.rules import check

ROOM = Path(__file__).parent
Evidence = dict[str, Any]
Doctor = Callable[[Evidence], object]
LEASE = 3
ENGINE, OTHER_ENGINE = 100, 200


def told(at: float) -> str:
    """A moment as documents show it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Story:
    """Writes the evidence of tasks."""

    def __init__(self) -> None:
        self.evidence: Evidence = {
            name: []
            for name in (
                *("clients", "handlers", "faults", "calm", "rows", "forgotten", "refused"),
                *("hashes", "living", "queues", "files"),
            )
        }
        self.seq = 0

    def ask(self, op: str, name: str, at: float, code: int | None, *, reader: str = "", **facts: Any) -> None:
        """A caller asks, and is answered a tenth of a second later."""
        line = {"op": op, "subject": "alice", "began": at, "ended": at + 0.1, "code": code, **facts}
        line |= {"reader": reader} if reader else {}
        if op in ("submit", "repeat"):
            line |= {"label": name, "key": None}
            if code == 202:
                line["task_id"] = f"task-{name}"
        else:
            line["task_id"] = f"task-{name}"
        self.evidence["clients"].append(line)

    def document(self, name: str, status: str, *, attempt: int = 1, progress: int = 0, at: float = 0) -> dict[str, Any]:
        """The next document of a task."""
        self.seq += 1
        shown = {"task_id": f"task-{name}", "status": status, "seq": self.seq, "attempt": attempt, "progress": progress}
        return shown | ({"finished_at": told(at)} if at else {})

    def submit(self, name: str, at: float, **order: Any) -> None:
        """A task is ordered and promised."""
        full = {"action": "soft", "steps": 2, "seconds": 1, **order}
        self.ask("submit", name, at, 202, order=full, document=self.document(name, "PENDING", attempt=0))

    def do(self, what: str, name: str, at: float, *, token: int = 1, attempt: int = 1, **facts: Any) -> None:
        """A handler does something."""
        line = {"what": what, "task_id": f"task-{name}", "mark": name, "attempt": attempt, "token": token, "at": at}
        line |= {"accepted": True} if what == "step" else {}
        line |= {"engine": ENGINE, "process": ENGINE} if what == "begin" else {}
        line |= {"began": at - 0.1} if what == "commit" else {}
        self.evidence["handlers"].append(line | facts)

    def row(self, name: str, status: str, at: float, *, run: int = 1, attempt: int = 1, file: int = 0) -> None:
        """A run ends; `file` is the token under which its result was made."""
        row: dict[str, Any] = {"task_id": f"task-{name}", "run": run, "status": status, "attempt": attempt}
        row |= {"finished_at": round(at * 1000), "labels": [name], "result_key": None, "sha256": None}
        if file:
            key, text = f"task-{name}/{file}", f"{name} {file}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            row |= {"result_key": key, "sha256": digest}
            self.evidence["files"].append({"key": key, "sha256": digest, "text": text})
        self.evidence["rows"].append(row)

    def work(self, name: str, begins: float, *, token: int = 1, attempt: int = 1, start: int = 0) -> None:
        """An attempt goes through the two steps, a second each, to its end."""
        self.do("begin", name, begins, token=token, attempt=attempt, step=start)
        for step in range(start, 2):
            at = begins + step - start
            self.do("step", name, at + 0.1, token=token, attempt=attempt, step=step)
            self.do("commit", name, at + 0.9, token=token, attempt=attempt, step=step + 1)
        self.do("end", name, begins + 2 - start, token=token, attempt=attempt)


def clean() -> Evidence:
    """The evidence of a small run in which everything is as it should be."""
    story = Story()
    # Completed, with a file, polled, repeated, watched by a stranger.
    story.submit("done", 10, file=True)
    story.work("done", 11)
    story.ask("status", "done", 12, 200, reader="poll", document=story.document("done", "PROCESSING", progress=50))
    story.ask("status", "done", 12.5, 404, reader="stranger", subject="mallory")
    story.row("done", "COMPLETED", 13, file=1)
    end = story.document("done", "COMPLETED", progress=100, at=13)
    story.ask("status", "done", 13.1, 200, reader="poll", document=end)
    story.ask("content", "done", 13.3, 200, text="done 1")
    story.ask("repeat", "done", 14, 202, order={}, document=end)
    # Cancelled while it waited, then retried.
    story.submit("again", 10)
    story.ask("cancel", "again", 11, 202, document=story.document("again", "CANCELLED", attempt=0, at=11))
    story.row("again", "CANCELLED", 11, attempt=0)
    story.ask("retry", "again", 12, 202, document=story.document("again", "PENDING", attempt=0))
    story.work("again", 12.5)
    story.row("again", "COMPLETED", 14.5, run=2)
    # Refused.
    story.ask("submit", "refused", 10, 503, order={"action": "soft", "steps": 1})
    # Deleted.
    story.submit("deleted", 10)
    story.work("deleted", 11)
    shown = story.document("deleted", "COMPLETED", progress=100, at=13)
    story.ask("status", "deleted", 13.1, 200, reader="poll", document=shown)
    story.ask("delete", "deleted", 14, 204)
    story.ask("status", "deleted", 15, 404, reader="after")
    story.evidence["forgotten"].append({"task_id": "task-deleted", "at": 14.05})
    # Cannot be done.
    story.submit("hopeless", 10, how="error", failures=1000, max_attempts=2)
    for attempt in (1, 2):
        story.do("begin", "hopeless", 10 + attempt, token=attempt, attempt=attempt, step=0)
        story.do("fail", "hopeless", 10.5 + attempt, token=attempt, attempt=attempt, how="error")
    story.row("hopeless", "FAILED", 13)
    # Its worker is killed at 20; another takes over at 24, from the checkpoint; the late one's effect is refused.
    story.submit("taken", 18)
    story.do("begin", "taken", 18.5, step=0)
    story.do("step", "taken", 18.6, step=0)
    story.do("commit", "taken", 19.4, step=1)
    story.evidence["faults"].append({"kind": "kill-worker", "began": 20.0, "ended": 20.0, "pid": ENGINE, "step": 1})
    story.do("begin", "taken", 24, token=2, attempt=2, step=1, engine=OTHER_ENGINE)
    story.do("step", "taken", 24.5, token=1, step=1, accepted=False)
    story.do("step", "taken", 24.1, token=2, attempt=2, step=1)
    story.do("commit", "taken", 25, token=2, attempt=2, step=2)
    story.do("end", "taken", 25, token=2, attempt=2)
    story.row("taken", "COMPLETED", 25.1, attempt=2)
    # Redis is emptied at 40, and six running jobs go on.
    for number in range(6):
        story.submit(f"on{number}", 38)
        story.work(f"on{number}", 39.5)
        story.row(f"on{number}", "COMPLETED", 41.6)
    story.evidence["faults"].append(
        {"kind": "empty-redis", "empties": "redis", "began": 40.0, "ended": 40.0, "step": 2}
    )
    story.ask("status", "on0", 40.1, 404, reader="poll")
    story.evidence["faults"].append({"kind": "cut", "began": 50.0, "ended": 50.0, "failure": "nothing", "step": 3})
    story.evidence["calm"] = [{"at": 60 + n, "living": 2, "messages": 2 + (n % 4 == 3)} for n in range(8)]
    story.evidence["queues"] = [{"queue": name, "messages": int(name != "soft")} for name in ("soft", "birth", "dead")]
    story.evidence["run"] = {
        "seed": 1,
        "lease_seconds": LEASE,
        "max_attempts": 40,
        "kinds": ["kill-worker", "empty-redis", "cut"],
        "least": None,
        "secrets": ["the password"],
        "began": 1.0,
        "healed": 59.0,
        "drained": 70.0,
        "ended": 71.0,
    }
    story.evidence["logs"] = "[INFO] all is well\n"
    return story.evidence


def written(evidence: Evidence, directory: Path) -> Path:
    """Write evidence as a run leaves it."""
    for name, lines in evidence.items():
        match name:
            case "run":
                (directory / "run.json").write_text(json.dumps(lines))
            case "logs":
                (directory / "logs").mkdir()
                (directory / "logs" / "worker0.log").write_text(lines)
            case _:
                (directory / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def history_of(evidence: Evidence, directory: Path) -> History:
    """Read evidence."""
    return read(written(evidence, directory))


# --- doctors: each makes one thing wrong


def _without(evidence: Evidence, store: str, name: str, **facts: Any) -> Evidence:
    before = len(evidence[store])
    wanted = {"task_id": f"task-{name}", **facts}
    evidence[store][:] = [line for line in evidence[store] if not wanted.items() <= line.items()]
    assert len(evidence[store]) < before
    return evidence


def _change(evidence: Evidence, store: str, where: dict[str, Any], **facts: Any) -> Evidence:
    found = [line for line in evidence[store] if where.items() <= line.items()]
    assert found
    found[-1].update(facts)
    return evidence


def _add(evidence: Evidence, store: str, like: dict[str, Any], **facts: Any) -> Evidence:
    found = [line for line in evidence[store] if like.items() <= line.items()]
    assert found
    evidence[store].append(copy.deepcopy(found[0]) | facts)
    return evidence


def _seen(evidence: Evidence, name: str, at: float, reader: str = "poll", **document: Any) -> Evidence:
    full = {"task_id": f"task-{name}", "status": "PROCESSING", "seq": 10_000, "attempt": 9, "progress": 100}
    story = Story()
    story.evidence = evidence
    story.ask("status", name, at, 200, reader=reader, document=full | document)
    return evidence


def _restart_all(evidence: Evidence) -> None:
    for number in range(6):
        name = f"on{number}"
        for line in evidence["handlers"]:
            if line["mark"] == name and line["at"] > 40:
                line |= {"token": 2, "attempt": 2}
        _add(evidence, "handlers", {"what": "begin", "mark": name}, token=2, attempt=2, at=40.3)
        evidence["handlers"].sort(key=lambda line: line["at"])


DOCTORED: dict[str, tuple[str, Doctor]] = {
    "a promised task has no row": ("lost", lambda e: _without(e, "rows", "taken")),
    "a retried run has no row": ("lost", lambda e: _without(e, "rows", "again", run=2)),
    "a promised task is still running": (
        "stuck",
        lambda e: (
            _without(e, "rows", "taken"),
            e["hashes"].append({"task_id": "task-taken", "status": "PROCESSING"}),
        ),
    ),
    "a task is still listed as living": ("stuck", lambda e: e["living"].append({"task_id": "task-done"})),
    "the time was over": ("not-drained", lambda e: e["run"].update(drained=None)),
    "a message is left": ("left-over", lambda e: _change(e, "queues", {"queue": "soft"}, messages=1)),
    "the birth mark is gone": ("left-over", lambda e: _change(e, "queues", {"queue": "birth"}, messages=0)),
    "copies do not converge": ("copies", lambda e: [line.update(messages=6) for line in e["calm"]]),
    "two rows of one run": ("two-ends", lambda e: _add(e, "rows", {"task_id": "task-done"})),
    "an end was told that no row has": (
        "two-ends",
        lambda e: _seen(e, "taken", 26, status="CANCELLED", finished_at=told(25)),
    ),
    "a run that nobody asked for": ("two-ends", lambda e: _add(e, "rows", {"task_id": "task-done"}, run=2)),
    "an attempt after the end was told": (
        "ran-after-end",
        lambda e: _add(e, "handlers", {"what": "begin", "mark": "done"}, at=20.0, token=2),
    ),
    "an attempt after a cancel that said CANCELLED": (
        "ran-after-end",
        lambda e: (_without(e, "clients", "again", op="retry"), _without(e, "rows", "again", run=2)),
    ),
    "two tasks of one submission": (
        "two-tasks",
        lambda e: _add(e, "rows", {"task_id": "task-done"}, task_id="task-double", result_key=None),
    ),
    "a task of nobody": ("nobody's", lambda e: _add(e, "rows", {"task_id": "task-on1"}, task_id="x", labels=["x"])),
    "a refused submission ran": (
        "refused-ran",
        lambda e: _add(e, "handlers", {"what": "begin", "mark": "on1"}, task_id="x", mark="refused"),
    ),
    "a refused submission ran before it was repeated": (
        "refused-ran",
        lambda e: _change(e, "handlers", {"what": "begin", "mark": "done"}, at=9.0),
    ),
    "a deleted task began again": (
        "came-back",
        lambda e: _add(e, "handlers", {"what": "begin", "mark": "deleted"}, at=20.0, token=2),
    ),
    "a deleted task was shown again": (
        "came-back",
        lambda e: _seen(e, "deleted", 16, reader="after", status="COMPLETED", finished_at=told(13)),
    ),
    "a deleted task was made anew by its key": (
        "came-back",
        lambda e: _add(e, "clients", {"op": "submit", "label": "deleted"}, op="repeat", began=16.0, ended=16.1),
    ),
    "a deleted task has a row": (
        "came-back",
        lambda e: _add(e, "rows", {"task_id": "task-on1"}, task_id="task-deleted"),
    ),
    "seq fell": ("older", lambda e: (_seen(e, "on1", 41.5), _seen(e, "on1", 41.6, seq=9_999))),
    "an end went away": ("older", lambda e: _seen(e, "done", 15)),
    "progress fell": ("older", lambda e: (_seen(e, "taken", 25.5), _seen(e, "taken", 25.6, seq=10_001, progress=9))),
    "a promised task was not found": (
        "vanished",
        lambda e: _change(
            e, "clients", {"code": 404, "task_id": "task-on0"}, task_id="task-taken", began=19.0, ended=19.1
        ),
    ),
    "a stranger was let in": ("stranger", lambda e: _change(e, "clients", {"subject": "mallory"}, code=200)),
    "a status was answered 500": (
        "answer",
        lambda e: _add(e, "clients", {"op": "status", "code": 404, "task_id": "task-on0"}, code=500),
    ),
    "a late worker's checkpoint was stored": (
        "late-worker",
        lambda e: _add(e, "handlers", {"what": "commit", "mark": "taken", "token": 1}, began=24.6, at=24.7),
    ),
    "the sink took a late effect": (
        "late-worker",
        lambda e: (
            _change(e, "handlers", {"what": "step", "accepted": False}, accepted=True),
            e["handlers"].append(e["handlers"].pop(e["handlers"].index(_line(e, what="step", mark="taken", token=1)))),
        ),
    ),
    "the result is not there": ("result", lambda e: e["files"].clear()),
    "the result is another one": ("result", lambda e: _change(e, "files", {"key": "task-done/1"}, sha256="0")),
    "the result was made under another token": ("result", lambda e: _change(e, "files", {}, text="done 7")),
    "another file was served": ("result", lambda e: _change(e, "clients", {"op": "content"}, text="done 7")),
    "a healthy task has FAILED": (
        "wrong-end",
        lambda e: _change(e, "rows", {"task_id": "task-taken"}, status="FAILED"),
    ),
    "a hopeless task is COMPLETED": (
        "wrong-end",
        lambda e: _change(e, "rows", {"task_id": "task-hopeless"}, status="COMPLETED"),
    ),
    "nobody cancelled it": ("wrong-end", lambda e: _change(e, "rows", {"task_id": "task-on1"}, status="CANCELLED")),
    "a step was left out": ("undone", lambda e: _without(e, "handlers", "on1", what="step", step=1)),
    "no attempt came to its end": ("undone", lambda e: _without(e, "handlers", "on1", what="end")),
    "it was tried too often": (
        "attempts",
        lambda e: _add(e, "handlers", {"what": "fail", "mark": "hopeless"}, at=12.9),
    ),
    "it began before its checkpoint": (
        "checkpoint",
        lambda e: _change(e, "handlers", {"what": "begin", "mark": "taken", "token": 2}, step=0),
    ),
    "running jobs began again when Redis was emptied": ("not-restored", _restart_all),
    "a secret stands in a log": ("log", lambda e: e.update(logs="it is the password\n")),
    "an exception was not handled": ("log", lambda e: e.update(logs="Task exception was never retrieved\n")),
}


def _line(evidence: Evidence, **facts: Any) -> dict[str, Any]:
    return next(line for line in reversed(evidence["handlers"]) if facts.items() <= line.items())


def test_a_clean_history_passes(tmp_path: Path) -> None:
    violations, _ = check(history_of(clean(), tmp_path))
    assert violations == []


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_history_fails_by_its_rule(name: str, tmp_path: Path) -> None:
    rule, doctor = DOCTORED[name]
    evidence = clean()
    doctor(evidence)
    violations, _ = check(history_of(evidence, tmp_path))
    assert rule in {violation.rule for violation in violations}, violations


def test_what_a_loss_of_data_excuses_is_counted(tmp_path: Path) -> None:
    """Redis was emptied at 40: a 404 just then is none of its violations, and is not passed over in silence."""
    _, excused = check(history_of(clean(), tmp_path))
    assert excused == {"404 for a while, Redis having lost data": 1}


def test_a_rollback_excuses_what_falls_and_nothing_else(tmp_path: Path) -> None:
    evidence = clean()
    evidence["faults"].append({"kind": "cut-aof-tail", "empties": "redis", "began": 25.3, "ended": 25.5})
    _seen(evidence, "taken", 25.2)
    _seen(evidence, "taken", 25.6, seq=3, attempt=1)
    _seen(evidence, "done", 25.6)
    _add(evidence, "handlers", {"what": "begin", "mark": "done"}, at=26.0, token=2)
    violations, excused = check(history_of(evidence, tmp_path))
    assert {violation.rule for violation in violations} == {"ran-after-end"}
    assert excused["seq fell, Redis being back with older data"] == 1


@pytest.mark.parametrize("late", ["stop-api", "hold", "latency", "stop-worker"])
def test_what_was_told_late_may_have_been_lost_since(late: str, tmp_path: Path) -> None:
    """An API that was stopped while Redis was emptied then tells what it had heard before."""
    evidence = clean()
    evidence["faults"].append({"kind": "empty-redis", "empties": "redis", "began": 22.0, "ended": 22.0})
    evidence["faults"].append({"kind": late, "empties": "", "began": 21.0, "ended": 25.4})
    _seen(evidence, "taken", 25.5)
    _seen(evidence, "taken", 25.6, seq=10_001, progress=9)
    violations, excused = check(history_of(evidence, tmp_path))
    is_late = late != "stop-worker"
    assert [violation.rule for violation in violations] == ([] if is_late else ["older"])
    assert excused["attempt or progress fell, Redis having lost data"] == int(is_late)


def test_faults_are_counted_with_what_was_in_flight(tmp_path: Path) -> None:
    history = history_of(clean(), tmp_path)
    assert states_at(history, 20.0) == {"PROCESSING": 1}
    assert states_at(history, 39.0) == {"PENDING": 6}
    kinds = by_kind(history)
    assert (kinds["kill-worker"].count, kinds["empty-redis"].in_flight) == (1, [6])
    assert (kinds["cut"].count, kinds["cut"].failures) == (0, 1)
    assert takeovers(history) == [4.0]


def judged(evidence: Evidence, directory: Path) -> tuple[int, str]:
    """Let the program itself judge; its exit status and what it says."""
    command = [sys.executable, "-m", "tests.checker", str(written(evidence, directory))]
    done = subprocess.run(command, cwd=ROOM.parents[1], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_program_tells_the_whole_story_of_what_is_wrong(tmp_path: Path) -> None:
    evidence = clean()
    _without(evidence, "rows", "taken")
    status, said = judged(evidence, tmp_path)
    assert status == 1
    assert "VIOLATION lost: run 1 of 1 has no end" in said
    assert "handler begin step=1 attempt=2 token=2" in said
    assert "--- kill-worker" in said


def test_a_long_run_with_too_few_faults_is_void(tmp_path: Path) -> None:
    evidence = clean()
    evidence["run"]["least"] = {"of_each_kind": 1, "in_flight": 6}
    status, said = judged(evidence, tmp_path)
    assert status == 2
    assert "VOID kill-worker: 0 times with 6 tasks in flight, 1 are needed" in said
    assert "VOID cut: 0 times" in said
    assert "VOID empty-redis" not in said


def test_what_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    evidence = clean()
    del evidence["rows"]
    status, said = judged(evidence, tmp_path)
    assert status == 3
    assert "cannot be read" in said


def test_it_imports_nothing_of_ours() -> None:
    """The standard library and itself: whoever judges must not share the errors of what is judged."""
    for path in ROOM.glob("*.py"):
        if path.name == "test_checker.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or name.startswith("tests.checker."), f"{path.name}: {name}"
