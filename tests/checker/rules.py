"""Rules: the promises, each as a function that yields what breaks it.

A rule is only as sharp as the evidence allows: where an answer did not come, everything that the question may have done
is allowed. What a loss of data in Redis excuses is said where it is excused, and counted.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.checker.history import FOREVER, Ask, Doing, Fault, History

KEPT_QUEUES: Final = frozenset({"birth", "dead"})
ALLOWED: Final = {
    "submit": {202, 409, 410, 422, 429, 500, 503},
    "repeat": {202, 409, 410, 422, 429, 500, 503},
    "status": {200, 404, 503},
    "cancel": {202, 404, 409, 503},
    "retry": {202, 404, 409, 410, 500, 503},
    "delete": {204, 404, 409, 503},
    "result": {200, 404, 409, 410, 503},
}
RESTARTED_AT_MOST: Final = 0.34
"""Of the jobs that run while Redis is emptied, what may begin again: a slow machine misses a beat now and then."""
WINDOW, ENOUGH = 6, 4
"""Of so many looks in a row so many must see no more messages than tasks; a copy and its message may overlap."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept."""

    rule: str
    sentence: str
    task_id: str = ""


Rule = Callable[[History, Counter[str]], Iterator[Violation]]
RULES: Final[list[Rule]] = []


def rule(function: Rule) -> Rule:
    """Register a rule."""
    RULES.append(function)
    return function


def check(history: History) -> tuple[list[Violation], Counter[str]]:
    """Hold a history against every rule: what breaks them, and how often something was excused."""
    excused: Counter[str] = Counter()
    return [violation for rule in RULES for violation in rule(history, excused)], excused


# --- 1. Every 202 reaches its end


@rule
def every_promise_is_kept(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """Each promised run has its row, unless its owner deleted the task."""
    for task_id in history.promised:
        if task_id in history.forgotten and history.may_be_deleted_from(task_id) < FOREVER:
            continue
        runs = [row.run for row in history.rows_of.get(task_id, ())]
        retried = sum(ask.code == 202 for ask in history.retries_of(task_id))
        if len(runs) >= 1 + retried:
            continue
        found = history.hashes.get(task_id, {}).get("status", "nothing")
        which = f"run {len(runs) + 1} of {1 + retried}"
        if found in ("PENDING", "PROCESSING"):
            yield Violation("stuck", f"{which} has no end; Redis shows {found}", task_id)
        else:
            yield Violation("lost", f"{which} has no end, and Redis shows {found}", task_id)


@rule
def nothing_is_left(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """In the end no task lives and no message waits."""
    if history.run["drained"] is None:
        yield Violation("not-drained", "tasks still lived, or messages still waited, when the time was over")
    for task_id in history.living:
        yield Violation("stuck", "it is still listed as living", task_id)
    for task_id, found in history.hashes.items():
        if found.get("status") in ("PENDING", "PROCESSING"):
            yield Violation("stuck", f"Redis still shows {found['status']}", task_id)
    for queue, count in history.queues.items():
        if count and queue not in KEPT_QUEUES:
            yield Violation("left-over", f"{count} messages are left in {queue}")
    if history.queues.get("birth") != 1:
        yield Violation("left-over", f"RabbitMQ has {history.queues.get('birth')} birth marks instead of 1")


@rule
def copies_converge(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """However many copies of a message there are, soon there is one for each living task."""
    surplus = [sample["messages"] - sample["living"] for sample in history.calm if sample["living"]]
    windows = [surplus[first : first + WINDOW] for first in range(max(1, len(surplus) - WINDOW + 1))]
    if surplus and not any(sum(more <= 0 for more in window) >= ENOUGH for window in windows):
        yield Violation(
            "copies", f"in the calm at the end there are {median(surplus):g} messages more than living tasks"
        )


# --- 3. One end


@rule
def one_end(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """One row for each run; and each end that anybody was told is the end in a row."""
    for (task_id, run), count in Counter((row.task_id, row.run) for row in history.rows).items():
        if count > 1:
            yield Violation("two-ends", f"run {run} has {count} rows", task_id)
    for task_id in history.asks_of:
        if history.may_be_deleted_from(task_id) < FOREVER:
            continue  # its rows were taken away
        known = {(row.status, row.finished_at) for row in history.rows_of.get(task_id, ())}
        for (status, moment), at in history.told_ends(task_id).items():
            if (status, moment) not in known:
                yield Violation("two-ends", f"told {status} at {at:.3f}, which no row says", task_id)
        runs = len(history.rows_of.get(task_id, ()))
        if runs > 1 + len(history.retries_of(task_id)):
            yield Violation("two-ends", f"{runs} runs have ended, and nobody asked for so many", task_id)


@rule
def no_run_begins_after_its_end_was_told(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """Once anybody was told an end, no handler starts, unless the owner retries."""
    for task_id, doings in history.doings_of.items():
        told = sorted(history.told_ends(task_id).values())
        retries = history.retries_of(task_id)
        for begin in doings:
            before = [at for at in told if at < begin.at]
            if begin.what != "begin" or not before:
                continue
            if not any(retry.began < begin.at and retry.until > before[-1] for retry in retries):
                late = begin.at - before[-1]
                yield Violation("ran-after-end", f"an attempt began {late:.3f} s after its end was told", task_id)


@rule
def one_submission_is_one_task(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """Each submission has one task, and no task ends that nobody has submitted."""
    found: dict[str, set[str]] = defaultdict(set)
    for label, asks in history.submissions.items():
        found[label] |= {ask.task_id for ask in asks if ask.code == 202}
    for row in history.rows:
        for label in row.labels or ("",):
            if label not in history.submissions:
                yield Violation("nobody's", f"a row of a submission that nobody made: {label!r}", row.task_id)
            found[label].add(row.task_id)
    for doing in history.doings:
        found[doing.mark].add(doing.task_id)
    for label, tasks in found.items():
        if len(tasks) > 1:
            yield Violation("two-tasks", f"submission {label} has {len(tasks)} tasks: {', '.join(sorted(tasks))}")


# --- 5. What was refused


@rule
def what_was_refused_never_runs(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """No handler starts for a submission before one of its requests was answered otherwise than by a refusal."""
    begins: dict[str, list[Doing]] = defaultdict(list)
    for doing in history.doings:
        if doing.what == "begin":
            begins[doing.mark].append(doing)
    rows = {label: row for row in history.rows for label in row.labels}
    for label, asks in history.submissions.items():
        allowed = min((ask.began for ask in asks if ask.may_have_worked), default=FOREVER)
        for begin in begins[label]:
            if begin.at < allowed:
                yield Violation("refused-ran", f"submission {label} was refused, and ran", begin.task_id)
        if allowed == FOREVER and label in rows:
            yield Violation("refused-ran", f"submission {label} was refused, and has a row", rows[label].task_id)


# --- 6. What was deleted


@rule
def what_was_deleted_never_comes_back(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """After a 204 nothing of the task is shown, begins, is made anew, or is left in a store."""
    for task_id, deletion in history.deleted.items():
        since = deletion.ended
        for doing in history.doings_of.get(task_id, ()):
            if doing.what == "begin" and doing.at > since:
                yield Violation("came-back", f"an attempt began {doing.at - since:.3f} s after DELETE", task_id)
        for ask in history.asks_of.get(task_id, ()):
            if ask.began <= since or ask.code is None or ask.code >= 300 or ask.op == "delete":
                continue
            if history.redis_went_back(deletion.began, ask.ended):
                excused["shown after DELETE, Redis being back with older data"] += 1
                continue
            yield Violation("came-back", f"{ask.op} answered {ask.code} after DELETE", task_id)
        for row in history.rows_of.get(task_id, ()):
            yield Violation("came-back", f"run {row.run} has a row", task_id)
        if task_id not in history.forgotten:
            yield Violation("came-back", "SQL does not know that it was deleted", task_id)
        if history.hashes.get(task_id, {}).get("status") in ("PENDING", "PROCESSING"):
            yield Violation("came-back", "Redis shows it as living", task_id)


# --- 4. What watchers see


@rule
def no_watcher_sees_an_older_document(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """For one reader seq rises, attempt and progress do not fall within a run, and an end stays."""
    last: dict[tuple[str, str], Ask] = {}
    for ask in sorted(history.asks, key=lambda ask: ask.ended):
        if not ask.document or not ask.reader:
            continue
        before = last.get((ask.reader, ask.task_id))
        last[ask.reader, ask.task_id] = ask
        if before is None:
            continue
        for sentence, excuse in _falls(history, before, ask):
            if excuse:
                excused[excuse] += 1
            else:
                yield Violation("older", f"{ask.reader}: {sentence}", ask.task_id)


def _falls(history: History, before: Ask, now: Ask) -> Iterator[tuple[str, str]]:
    """What has fallen from one document to the next, and what excuses it."""
    old, new = before.document, now.document
    sent = history.on_its_way_since(before)
    went_back, lost = history.redis_went_back(sent, now.ended), history.redis_lost_data(sent, now.ended)
    if new["seq"] < old["seq"]:
        excuse = "seq fell, Redis being back with older data" if went_back else ""
        if lost and now.end:  # SQL's, which cannot know of what was shown of a run that nobody remembers
            excuse = excuse or "seq fell to that of an end in SQL, Redis having lost data"
        yield f"seq {old['seq']} and then {new['seq']}", excuse
    since = history.told_ends(now.task_id)[before.end] if before.end else before.began
    again = any(retry.began < now.ended and retry.until > since for retry in history.retries_of(now.task_id))
    if before.end and now.end != before.end and not again:
        shown = f"{old['status']} and then {new['status']}"
        yield shown, "an end was not shown for a while, Redis being back with older data" if went_back else ""
    place, newer = (old["attempt"], old["progress"]), (new["attempt"], new["progress"])
    if newer < place and not again:
        excuse = "attempt or progress fell, Redis having lost data" if lost else ""
        if new["status"] == "CANCELLED" and old.get("cancel_requested"):
            excuse = excuse or "attempt fell, the row of a cancel having been written while its task was claimed"
        yield f"attempt {place[0]} at {place[1]} % and then attempt {newer[0]} at {newer[1]} %", excuse


@rule
def what_was_promised_is_found(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """A promised task is no 404 for its owner, but while Redis has lost it and its message has not come yet."""
    for ask in history.asks:
        if ask.op != "status" or ask.code != 404 or ask.subject == "mallory":
            continue
        promise = history.promised.get(ask.task_id)
        if promise is None or ask.began < promise.ended or history.may_be_deleted_from(ask.task_id) <= ask.ended:
            continue
        if history.redis_lost_data(promise.began - 1, ask.ended):
            excused["404 for a while, Redis having lost data"] += 1
        else:
            yield Violation("vanished", f"404 {ask.began - promise.ended:.3f} s after its 202", ask.task_id)


@rule
def answers_are_of_the_contract(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """No operation answers what the contract does not know of it; a stranger is only ever told 404."""
    for ask in history.asks:
        if ask.code is None:
            continue
        if ask.subject == "mallory":
            if ask.code not in (404, 503):
                yield Violation("stranger", f"a stranger was answered {ask.code}", ask.task_id)
        elif ask.op in ALLOWED and ask.code not in ALLOWED[ask.op]:
            yield Violation("answer", f"{ask.op} was answered {ask.code}", ask.task_id)


# --- 2. The token decides


@rule
def a_late_worker_changes_nothing(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """Once an attempt with a newer token has begun, no older one stores a checkpoint, nor has an effect on the sink."""
    for task_id, doings in history.doings_of.items():
        newest = 0
        for doing in doings:
            if doing.what == "step" and doing.accepted:
                if doing.token < newest:
                    yield Violation("late-worker", "the sink took an effect of an older token", task_id)
                newest = max(newest, doing.token)
        begins = [doing for doing in doings if doing.what == "begin"]
        for commit in doings:
            if commit.what != "commit":
                continue
            newer = [begin for begin in begins if begin.token > commit.token and begin.at < commit.began]
            if not newer:
                continue
            if history.redis_went_back(newer[0].at, commit.at):
                excused["a checkpoint of an older token, Redis being back with older data"] += 1
                continue
            late = commit.began - newer[0].at
            yield Violation(
                "late-worker", f"a checkpoint was stored {late:.3f} s after a newer attempt had begun", task_id
            )


@rule
def results_are_the_winners(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """The file of a row is there and what the row says, made under the token in its name; and it is what is served."""
    for row in history.rows:
        if row.result_key is None:
            continue
        file = history.files.get(row.result_key)
        token = row.result_key.rpartition("/")[2]
        if file is None:
            yield Violation("result", f"its file {row.result_key} is not there", row.task_id)
            continue
        if file["sha256"] != row.sha256:
            yield Violation("result", "its file is not what the row says", row.task_id)
        if file["text"] != f"{' '.join(row.labels)} {token}":
            yield Violation("result", f"its file was not made under token {token}: {file['text']!r}", row.task_id)
        for ask in history.asks_of.get(row.task_id, ()):
            if ask.op == "content" and ask.text != file["text"]:
                yield Violation("result", f"served {ask.text!r} instead of {file['text']!r}", row.task_id)


# --- The work itself


@rule
def it_ended_as_it_must(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """What can be done is COMPLETED, with all its effects; what cannot is FAILED; CANCELLED is what was cancelled."""
    for task_id, rows in history.rows_of.items():
        order = history.order_of(task_id)
        if not order:
            continue
        hopeless = order.get("failures", 0) >= 1000
        cancelled = any(ask.op == "cancel" and ask.code not in (404, 409) for ask in history.asks_of.get(task_id, ()))
        allowed = {"FAILED" if hopeless else "COMPLETED"} | ({"CANCELLED"} if cancelled else set())
        for row in rows:
            if row.status not in allowed:
                yield Violation("wrong-end", f"run {row.run} is {row.status} ({row.error or 'no error'})", task_id)
        if rows[-1].status == "COMPLETED":
            doings = history.doings_of.get(task_id, ())
            done = {doing.step for doing in doings if doing.what == "step" and doing.accepted}
            missing = set(range(order["steps"])) - done
            if missing:
                yield Violation("undone", f"COMPLETED, but step {min(missing)} has had no effect", task_id)
            if not any(doing.what == "end" for doing in doings):
                yield Violation("undone", "COMPLETED, but no attempt has come to its end", task_id)
            if bool(order.get("file")) != bool(rows[-1].result_key):
                yield Violation("result", "it has no file, or one too many", task_id)


@rule
def attempts_are_capped(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """What fails each time is not tried more often than its order allows, in each run."""
    for task_id, doings in history.doings_of.items():
        order = history.order_of(task_id)
        most = order.get("max_attempts", history.run["max_attempts"])
        runs = 1 + len(history.retries_of(task_id))
        fails = [doing for doing in doings if doing.what == "fail"]
        if len(fails) <= most * runs:
            continue
        if history.redis_lost_data(fails[0].at - 1, fails[-1].at):
            excused["an attempt too many, Redis having lost the charge"] += 1
        else:
            yield Violation("attempts", f"it has failed {len(fails)} times in {runs} runs of {most}", task_id)


@rule
def a_task_resumes_from_its_checkpoint(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """A later attempt starts where the last stored checkpoint says, unless Redis has lost that."""
    for task_id, doings in history.doings_of.items():
        stored, stored_at = 0, 0.0
        for doing in doings:
            if doing.what == "commit":
                if doing.step > stored:
                    stored, stored_at = doing.step, doing.at
            elif doing.what == "begin" and doing.step < stored:
                if history.redis_lost_data(stored_at - 1, doing.at):
                    excused["begun before its checkpoint, Redis having lost it"] += 1
                else:
                    yield Violation(
                        "checkpoint", f"began at step {doing.step}, though step {stored} was stored", task_id
                    )


@rule
def running_jobs_go_on_when_redis_is_emptied(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """When nothing but that happens, most of the running attempts go on: their workers bring them back from memory."""
    went_on = restarted = 0
    for flush in history.broken:
        if flush.kind == "empty-redis" and _is_undisturbed(history, flush):
            for doings in history.doings_of.values():
                match _fate(doings, flush.began, history.run["lease_seconds"]):
                    case "went on":
                        went_on += 1
                    case "restarted":
                        restarted += 1
    if restarted >= 5 and restarted > RESTARTED_AT_MOST * (went_on + restarted):
        yield Violation(
            "not-restored", f"of {went_on + restarted} jobs that ran while Redis was emptied, {restarted} began again"
        )


def _is_undisturbed(history: History, flush: Fault) -> bool:
    lease = history.run["lease_seconds"]
    others = [
        fault for fault in history.faults if fault is not flush and fault.kind not in ("empty-redis", "duplicate")
    ]
    return not any(fault.meets(flush.began - 2 * lease, flush.began + 2 * lease) for fault in others)


def _fate(doings: list[Doing], at: float, lease: float) -> str:
    """What became of the attempt that ran at this moment, within two leases."""
    before = [doing for doing in doings if doing.at < at]
    if not before or before[-1].what not in ("begin", "step", "commit") or at - before[-1].at > lease:
        return "none ran"
    token = before[-1].token
    after = [doing for doing in doings if at < doing.at < at + 2 * lease]
    if any(doing.what == "begin" and doing.token > token for doing in after):
        return "restarted"
    # A step that was under way is no sign: what counts is a checkpoint that was asked for afterwards, or the end.
    later = [doing for doing in after if doing.what in ("commit", "end") and max(doing.began, at) > at]
    return "went on" if later else "none ran"


@rule
def logs_are_clean(history: History, excused: Counter[str]) -> Iterator[Violation]:
    """No secret stands in a log, and no exception that nobody has handled."""
    for name, text in history.logs.items():
        for secret in history.run.get("secrets", ()):
            if secret in text:
                yield Violation("log", f"a secret stands in {name}")
        for words in ("exception was never retrieved", "exception='Traceback", 'exception="Traceback'):
            if words in text:
                line = next(number for number, line in enumerate(text.splitlines(), 1) if words in line)
                yield Violation("log", f"{name}, line {line}: {words}")
