"""A worker, from a message to a running handler.

`claim` is called once with what the message says. Where that is not enough it answers ASK, and SQL is asked; if SQL
knows nothing against it, `claim` is called a second time with this answer, in the same epoch (phase `cleared`), and
decides anew by what it finds then.
"""

from tests.protocol.state import (
    ABORTED,
    CREATED,
    FORGOTTEN,
    FRESH,
    MAX_ATTEMPTS,
    NOBODY,
    OVER,
    PENDING,
    PROCESSING,
    Message,
    State,
    Step,
    Steps,
    Task,
    now,
    without,
)
from tests.protocol.stores import (
    World,
    accepts,
    charge,
    count_start,
    free,
    has_ended,
    holds,
    is_missing,
    mark_forgotten,
    settle,
    settle_from_sql,
    sql_bars,
    starting,
)


def receive(w: World, s: State, i: int) -> Steps:
    """An idle worker takes any message, and claims its task."""
    if i == 1 and s.workers[0].phase == "idle":
        return  # the two are alike: let the first one go first
    for message in set(s.queue):
        held = now(
            s._replace(queue=without(s.queue, message)),
            i,
            phase="cleared",
            run=message.run,
            message=message.id,
            delivery=True,
        )
        yield _claim(w, held, i, message, cleared=False)


def claim_again(w: World, s: State, i: int) -> Steps:
    """The second call of claim, after SQL said no."""
    worker = s.workers[i]
    if not worker.delivery and w.rules.lost_deliveries_are_discarded:
        yield Step("must", "discards a delivery whose channel was lost", free(s, i, acknowledge=True))
    else:
        yield _claim(w, s, i, Message(worker.message, worker.run), cleared=True)


def _claim(w: World, s: State, i: int, message: Message, *, cleared: bool) -> Step:
    """The table of claim, from its first row to its last."""
    task, rules = s.task, w.rules
    if is_missing(w, task, message.run) or task is None:
        return _claim_missing(w, s, i, message, cleared=cleared)
    if message.run < task.run and rules.runs_are_compared:
        return _drop(s, i, "claim: an older run")
    takeable = task.status == CREATED or (task.status == ABORTED and rules.aborted_bars_only_its_own)
    if takeable and message.id != task.guard:
        if rules.created_asks and not cleared:
            return _ask(w, s, i, message, f"claim: {task.status} with another guard")
        return _take(w, s, i, message, f"claim: takes {task.status} of another guard", again=rules.taken_asks_again)
    if task.status == FORGOTTEN and task.leased and not s.sql.forgotten:
        return _wait(w, s, i, message, "claim: DELETE's first mark, SQL does not have it")
    if task.status in OVER:
        return _drop(s, i, f"claim: {task.status}")
    if not accepts(w, task, message.id):
        return _drop(s, i, "claim: another message guards it")
    return _claim_guarded(w, s, i, message, task, cleared=cleared)


def _claim_missing(w: World, s: State, i: int, message: Message, *, cleared: bool) -> Step:
    """The row about a hash that is not there."""
    if s.young and w.rules.young_epochs_wait:
        return _wait(w, s, i, message, "claim: no hash in a young epoch")
    return _rebuild(w, s, i, message) if cleared else _ask(w, s, i, message, "claim: no hash")


def _claim_guarded(w: World, s: State, i: int, message: Message, task: Task, *, cleared: bool) -> Step:
    """The rows about a task that this message guards."""
    if not s.budget.due and w.rules.claims_wait_until_due:
        if task.status == CREATED and w.rules.a_parked_task_is_pending:
            task = task._replace(status=PENDING)
        return copy(w, s, i, task._replace(guard=message.id), "park", "claim: not before its time")
    if task.status == PROCESSING:
        return _claim_processing(w, s, i, message, task, cleared=cleared)
    # What SQL said to the request is old by now: a run under a key, or a retried one, may have begun before.
    begun_before = (w.scenario.keyed > 0 or message.run > 1) and w.rules.repeatable_claims_ask_again
    return _take(w, s, i, message, f"claim: {task.status}", again=begun_before)


def _claim_processing(w: World, s: State, i: int, message: Message, task: Task, *, cleared: bool) -> Step:
    """The rows about leases."""
    if task.leased:
        return copy(w, s, i, task._replace(guard=message.id), "park", "claim: a live lease")
    if s.young and w.rules.young_epochs_wait:
        return _wait(w, s, i, message, "claim: an expired lease in a young epoch")
    if w.rules.takeover_asks and not cleared:
        if has_ended(s, message.run) or s.sql.forgotten:
            return _drop(settle_from_sql(w, s, message.run), i, "claim: an expired lease; SQL has a row: settles")
        return Step("must", "claim: an expired lease; SQL knows no end", now(s, i, phase="cleared"))
    return _take(w, s._replace(task=charge(w, task)), i, message, "claim: takes over", again=False)


def _drop(s: State, i: int, why: str) -> Step:
    return Step("must", f"{why}: drops it", free(s, i, acknowledge=True))


def _wait(w: World, s: State, i: int, message: Message, why: str) -> Step:
    """Park without a script: the copy has the same id, so that `refused` and the guard still know it."""
    copied = message.id if w.rules.a_blind_copy_keeps_its_id else FRESH
    parked = free(s, i, acknowledge=True)
    return Step("must", f"{why}: parks", parked._replace(queue=(*parked.queue, Message(copied, message.run))))


def _ask(w: World, s: State, i: int, message: Message, why: str) -> Step:
    if message.id in s.sql.doubted:
        return _wait(w, s, i, message, f"{why}; SQL doubts it")
    barred = sql_bars(w, s, message)
    if barred:
        return _drop(s, i, f"{why}; SQL has {barred}")
    return Step("must", f"{why}; SQL knows nothing", now(s, i, phase="cleared"))


def _rebuild(w: World, s: State, i: int, message: Message) -> Step:
    """The hash from the message, under a lease: who dies now leaves a take-over, which asks SQL."""
    if w.rules.rebuilt_under_a_lease:
        task = Task(PROCESSING, message.run, message.id, holder=i, leased=True)
    else:
        task = Task(PENDING, message.run, message.id)
    rebuilt = s._replace(task=task)
    if w.rules.rebuilt_asks_again or not s.budget.due:
        return Step("must", "claim: rebuilds", now(rebuilt, i, phase="taken", fresh=True))
    return _take(w, rebuilt, i, message, "claim: rebuilds", again=False)


def _take(w: World, s: State, i: int, message: Message, how: str, *, again: bool) -> Step:
    """-> PROCESSING with a new token; then the handler, unless the task is cancelled or its attempts are used up."""
    old = s.task
    assert old is not None
    same = old.run == message.run
    task = Task(
        PROCESSING,
        message.run,
        message.id,
        next_guard=old.next_guard if same and old.next_guard != message.id else 0,
        holder=i,
        leased=True,
        cancel=same and old.cancel,
        charged=old.charged if same else 0,
    )
    s = now(s._replace(task=task), i, run=message.run, message=message.id, fresh=True, phase="running", purpose="")
    if task.cancel:
        return Step("must", f"{how}: cancelled already", now(s, i, phase="checked", purpose="cancelled"))
    if w.scenario.fails and task.charged >= MAX_ATTEMPTS and w.rules.attempts_are_capped:
        return Step("must", f"{how}: no attempt left", now(s, i, phase="checked", purpose="dead"))
    if again:
        return Step("must", how, now(s, i, phase="taken"))
    return Step("must", f"{how}: RUNS", count_start(w, s), starting(s, i, message.run))


def ask_again(w: World, s: State, i: int) -> Steps:
    """Between a hash that was made anew and the handler: an end may have been written meanwhile."""
    worker, task = s.workers[i], s.task
    if s.sql.forgotten and w.rules.asks_for_forgotten:
        yield _drop(mark_forgotten(s), i, "asks again: forgotten, marks it")
    elif w.rules.asks_for_a_row and has_ended(s, worker.run):
        yield _drop(settle(w, s, worker.run), i, "asks again: a row, settles")
    elif task is not None and task.status == PENDING and task.guard == worker.message:
        yield _take(w, s, i, Message(worker.message, worker.run), "asks again: nothing", again=False)
    elif task is None or not holds(w, s, i):
        yield Step("must", "asks again: nothing; beat: LOST, stops", free(s, i, acknowledge=False))
    elif not s.budget.due and w.rules.claims_wait_until_due:
        parked = task._replace(status=PENDING, holder=NOBODY, leased=False)
        yield copy(w, s, i, parked, "park", "asks again: nothing, but not before its time")
    else:
        wrong = starting(s, i, worker.run)
        yield Step("must", "asks again: nothing: RUNS", now(count_start(w, s), i, phase="running"), wrong)


def copy(w: World, s: State, i: int, task: Task, purpose: str, why: str, *, kind: str = "must") -> Step:
    """The script's half of a copy: the hash names it before it is published."""
    s = now(s._replace(task=task._replace(next_guard=FRESH)), i, phase="copying", copy=FRESH, purpose=purpose)
    if not w.rules.copy_before_acknowledgement:
        s = now(s, i, delivery=False)
    return Step(kind, f"{why}: {purpose}s, by a copy", s)
