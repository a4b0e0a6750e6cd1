"""A worker, from a running handler to the acknowledgement: beats, copies, and the end in its order."""

from tests.protocol.claiming import ask_again, claim_again, copy, receive
from tests.protocol.state import (
    CANCELLED,
    COMPLETED,
    DEAD,
    FAILED,
    MAX_ATTEMPTS,
    NOBODY,
    PENDING,
    PROCESSING,
    Message,
    State,
    Step,
    Steps,
    Task,
    now,
)
from tests.protocol.stores import (
    World,
    count_start,
    free,
    has_ended,
    holds,
    insert_row,
    is_missing,
    mark_forgotten,
    must_keep,
    promote,
    settle,
    starting,
    wake_webhooks,
)


def steps(w: World, s: State, i: int) -> Steps:
    """What one worker can do next."""
    return PHASES[s.workers[i].phase](w, s, i)


def work(w: World, s: State, i: int) -> Steps:
    """A handler runs: a beat, and what the beat's answer allows."""
    if is_missing(w, s.task, s.workers[i].run):
        yield _missing(w, s, i)
    elif not holds(w, s, i):
        yield Step("must", "beat: LOST, stops", free(s, i, acknowledge=False))
    else:
        yield from _held(w, s, i)


def _missing(w: World, s: State, i: int) -> Step:
    """Redis was emptied: a worker with a fresh beat restores the hash, if SQL knows no end."""
    worker, rules = s.workers[i], w.rules
    told = (s.sql.forgotten or has_ended(s, worker.run)) and rules.restore_asks
    if told or not rules.beats_restore or (rules.only_fresh_beats_restore and not worker.fresh):
        return Step("must", "beat: MISSING, stops", free(s, i, acknowledge=False))
    return Step("must", "beat: MISSING, SQL knows nothing", now(s, i, phase="restoring"))


def restore(w: World, s: State, i: int) -> Steps:
    """The script: the hash from the worker's memory, if it is still missing."""
    worker = s.workers[i]
    if not is_missing(w, s.task, worker.run):
        yield Step("must", "restore: it is there", now(s, i, phase="running"))
        return
    guard = 0 if w.rules.restore_names_no_guard else worker.message
    restored = s._replace(task=Task(PROCESSING, worker.run, guard, holder=i, leased=True))
    if w.rules.restored_asks_again:
        yield Step("must", "restores", now(restored, i, phase="restored", fresh=True))
    else:
        wrong = starting(s, i, worker.run)
        yield Step("must", "restores, goes on", now(restored, i, phase="running", fresh=True), wrong)


def ask_after_restore(w: World, s: State, i: int) -> Steps:
    """As after a rebuild: an end may have been written between the question and the hash."""
    worker = s.workers[i]
    if s.sql.forgotten:
        yield Step("must", "asks again: forgotten, marks it, stops", free(mark_forgotten(s), i, acknowledge=True))
    elif has_ended(s, worker.run):
        yield Step("must", "asks again: a row, settles, stops", free(settle(w, s, worker.run), i, acknowledge=True))
    else:
        if holds(w, s, i):
            wrong = starting(s, i, worker.run)
            counted = count_start(w, s) if worker.requeued else s  # Redis has lost that it was requeued
            yield Step("must", "asks again: nothing, goes on", now(counted, i, phase="running", requeued=False), wrong)
        else:  # the next beat stops it
            yield Step("must", "asks again: nothing, goes on", now(s, i, phase="running"))


def _held(w: World, s: State, i: int) -> Steps:
    worker, task = s.workers[i], s.task
    assert task is not None
    wrong = () if task.holder == i else ("LATE_WORKER_CHANGED_IT",)
    kept = task._replace(leased=True)
    held = s._replace(task=kept)
    if not (task.leased and worker.fresh):
        yield Step("must", "beat: HELD", now(held, i, fresh=True), wrong)
    if not w.scenario.fails or task.cancel:
        outcome = CANCELLED if task.cancel else FAILED if w.scenario.retries and worker.run == 1 else COMPLETED
        ended = now(held, i, phase="checked", purpose=outcome, fresh=True)
        if not w.rules.row_before_acknowledgement:
            ended = now(ended, i, delivery=False)
        yield Step("must", f"the handler has {outcome}; beat: still mine", ended, wrong)
    else:
        yield _fail(w, s, i, kept)
        yield Step("may", "the handler kills its worker", free(s, i, acknowledge=False))
    if worker.delivery and w.scenario.hands_over:
        yield copy(w, s, i, kept, "hand over", "a long job", kind="may")
    if s.budget.releases:
        budget = s.budget._replace(releases=0, tried=max(s.budget.tried - 1, 0))
        task = kept._replace(status=PENDING, holder=NOBODY, leased=False)
        if not w.rules.shutdowns_are_free:
            task = task._replace(charged=min(task.charged + 1, MAX_ATTEMPTS))
        yield copy(w, s._replace(budget=budget), i, task, "release", "shutdown", kind="may")


def _fail(w: World, s: State, i: int, task: Task) -> Step:
    """An exception of the handler: charged; another attempt, or the end in `dead`."""
    charged = task.charged + 1 if w.rules.failures_are_charged else task.charged
    if charged >= MAX_ATTEMPTS:
        dead = s._replace(task=task._replace(charged=MAX_ATTEMPTS))
        return Step(
            "must", "the handler fails for the last time", now(dead, i, phase="checked", purpose=DEAD, fresh=True)
        )
    task = task._replace(status=PENDING, holder=NOBODY, leased=False, charged=charged)
    return copy(w, s, i, task, "release", "the handler fails")


def publish_copy(w: World, s: State, i: int) -> Steps:
    """The copy in the broker, and its confirm."""
    worker = s.workers[i]
    published = Message(worker.copy, worker.run)
    yield Step("must", "publishes the copy", now(s._replace(queue=(*s.queue, published)), i, phase="promoting"))
    if s.budget.faults and "confirm" in w.scenario.kinds:
        lost = _give_up_copy(s, i)
        yield Step("fault", "PUBLISH OF THE COPY LOST", lost)
        yield Step("fault", "CONFIRM OF THE COPY LOST, comes late", lost._replace(late=(*s.late, published)))
        yield Step("fault", "CONFIRM OF THE COPY LOST, arrived", lost._replace(queue=(*lost.queue, published)))


def _give_up_copy(s: State, i: int) -> State:
    """Nothing is acknowledged: a running job keeps its delivery, any other goes back."""
    if s.workers[i].purpose == "hand over":
        return now(s, i, phase="running", copy=0, purpose="")
    return free(s, i, acknowledge=False)


def promote_copy(w: World, s: State, i: int) -> Steps:
    """The copy is the guard; only now may the old message go."""
    worker = s.workers[i]
    promoted = promote(s, worker.copy)
    if worker.delivery and must_keep(w, promoted.task, Message(worker.message, worker.run)):
        yield Step("must", "promote: KEEP, the old message is still the guard", _give_up_copy(promoted, i))
        return
    if worker.purpose == "hand over":
        after = now(promoted, i, phase="running", message=worker.copy, delivery=False, copy=0, purpose="")
        yield Step("must", "promotes, acknowledges the old message, works on", after)
    else:
        yield Step("must", "promotes, acknowledges the old message", free(promoted, i, acknowledge=True))


def write_row(w: World, s: State, i: int) -> Steps:
    """The row; a run that used up its attempts lies in `dead` before."""
    worker = s.workers[i]
    if worker.purpose == DEAD and not s.sql.dead and w.rules.dead_before_acknowledgement:
        yield Step("must", "a copy into `dead`", s._replace(sql=s.sql._replace(dead=True)))
        return
    if worker.phase == "checked" and not w.rules.row_before_settle:
        yield Step("must", "settles before its row", now(settle(w, s, worker.run), i, phase="settled"))
        return
    after, wrong = insert_row(w, s, worker.run, worker.purpose)
    if after.sql.forgotten:
        forgotten = mark_forgotten(after) if w.rules.barred_rows_mark_the_hash else after
        yield Step("must", "no row: forgotten; marks the hash, drops it", free(forgotten, i, acknowledge=True), wrong)
    else:
        yield Step("must", f"row: {after.sql.rows[worker.run - 1]}", now(after, i, phase="ended"), wrong)


def finish(w: World, s: State, i: int) -> Steps:
    """Settle, the wake-up, the acknowledgement: who dies between them finds the row and does the rest."""
    worker = s.workers[i]
    after = wake_webhooks(settle(w, s, worker.run), worker.run)
    if worker.purpose == DEAD and not s.sql.dead and s.sql.rows[worker.run - 1] == DEAD:
        yield Step("must", "settles, acknowledges", now(after, i, phase="burying", delivery=False))
    else:
        yield Step("must", "settles, wakes webhooks, acknowledges", free(after, i, acknowledge=True))


def bury_late(w: World, s: State, i: int) -> Steps:
    """Without `dead_before_acknowledgement`."""
    buried = s._replace(sql=s.sql._replace(dead=True))
    yield Step("must", "a copy into `dead`, after its acknowledgement", free(buried, i, acknowledge=True))


PHASES = {
    "idle": receive,
    "cleared": claim_again,
    "taken": ask_again,
    "running": work,
    "restoring": restore,
    "restored": ask_after_restore,
    "copying": publish_copy,
    "promoting": promote_copy,
    "checked": write_row,
    "settled": write_row,
    "ended": finish,
    "burying": bury_late,
}
