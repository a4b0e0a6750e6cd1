"""The leader of housekeeping, the sender of webhooks, and what time brings.

Time is only an order here, but for three sentences that deployment has to keep true: `created` is deleted after every
request that could own it has been answered; an epoch does not grow a lease old before the live workers have beaten; an
ended hash expires when nobody is at work on the task any more.
"""

from tests.protocol.state import (
    BUSY,
    CREATED,
    FORGOTTEN,
    FRESH,
    LIVING,
    MAX_ATTEMPTS,
    NOBODY,
    OVER,
    PENDING,
    PROCESSING,
    Keeper,
    Message,
    State,
    Step,
    Steps,
    Task,
    marked,
    now,
)
from tests.protocol.stores import (
    World,
    accepts,
    charge,
    hand_out_copy,
    has_ended,
    is_missing,
    promote,
    settle_from_sql,
    settle_refusal,
)


def steps(w: World, s: State) -> Steps:
    """What happens by itself."""
    yield from _keep_guards(w, s)
    yield from _reap(w, s)
    yield from _requeue(s)
    yield from _send_webhooks(w, s)
    yield from _time(w, s)


def is_guarded(w: World, s: State, task: Task) -> bool:
    """Whether some message that the hash takes is in the broker, or held, and so will come again."""
    if any(message.run == task.run and accepts(w, task, message.id) for message in s.queue):
        return True
    return any(worker.delivery and worker.run == task.run and accepts(w, task, worker.message) for worker in s.workers)


def sweep(w: World, s: State) -> State:
    """Drop at once what can only be dropped, or the queue could grow for ever: two holders of one parked message may
    outdo each other's copies as often as they like. While Redis may still be emptied any message may be needed.
    """
    task = s.task
    if len(s.queue) < 3 or s.budget.redis or task is None or task.status not in LIVING:
        return s
    on_their_way = {worker.copy for worker in s.workers} | {s.keeper.copy}
    kept = tuple(
        message
        for message in s.queue
        if message.run != task.run or message.id in on_their_way or accepts(w, task, message.id)
    )
    return s._replace(queue=kept)


def _keep_guards(w: World, s: State) -> Steps:
    """The re-driver, the birth mark, and the deletion of `created`."""
    task, keeper, rules = s.task, s.keeper, w.rules
    if keeper.phase == "publishing":
        published = s._replace(queue=(*s.queue, Message(keeper.copy, keeper.run)))
        yield Step("must", "re-driver publishes", published._replace(keeper=keeper._replace(phase="promoting")))
    elif keeper.phase == "promoting":
        yield Step("must", "re-driver promotes", promote(s, keeper.copy)._replace(keeper=Keeper()))
    if task is not None and task.status == CREATED and not any(request.phase in BUSY for request in s.requests):
        if rules.created_is_deleted:
            yield Step("must", "created is deleted", s._replace(task=None))
        elif keeper.phase == "idle" and not is_guarded(w, s, task):
            yield _redrive(s, task._replace(status=PENDING), "must", "created")
    living = task is not None and task.status in LIVING
    if task is not None and living and keeper.phase == "idle" and s.birth and rules.losses_are_redriven:
        copying = any(worker.phase in ("copying", "promoting") for worker in s.workers)
        if not is_guarded(w, s, task) and not copying:
            yield _redrive(s, task, "must", "no guard")
        elif s.budget.redrives:
            spent = s._replace(budget=s.budget._replace(redrives=s.budget.redrives - 1))
            yield _redrive(spent, task, "may", "by age, wrongly")
    if not s.birth and not (rules.birth_waits and any(request.phase == "confirmed" for request in s.requests)):
        yield _birth(w, s)


def _redrive(s: State, task: Task, kind: str, why: str) -> Step:
    return Step(
        kind, f"re-driver: {why}", hand_out_copy(s, task)._replace(keeper=Keeper("publishing", FRESH, task.run))
    )


def _birth(w: World, s: State) -> Step:
    """RabbitMQ was emptied: a new guard for what lives, then the mark."""
    task = s.task
    s = s._replace(birth=True, keeper=Keeper())
    if task is None or task.status not in LIVING or not w.rules.birth_redrives:
        return Step("must", "birth: the mark is put back", s)
    published = s._replace(queue=(*s.queue, Message(FRESH, task.run)))
    guarded = published._replace(task=task._replace(guard=FRESH, next_guard=0))
    return Step("must", "birth: a new guard, the mark is put back", guarded)


def _reap(w: World, s: State) -> Steps:
    """An expired lease: as claim does with one."""
    task = s.task
    if task is None or task.status != PROCESSING:
        return
    if task.leased:
        if task.holder == NOBODY:
            yield Step("must", "the lease expires", s._replace(task=task._replace(leased=False)))
    elif w.rules.expired_leases_are_reaped and not (s.young and w.rules.young_epochs_wait):
        if has_ended(s, task.run) or s.sql.forgotten:
            yield Step("must", "reaper: a row, settles", settle_from_sql(w, s, task.run))
        else:
            pending = charge(w, task)._replace(status=PENDING, holder=NOBODY)
            yield Step("must", "reaper: PENDING", s._replace(task=pending))


def _requeue(s: State) -> Steps:
    """An operator takes a running task from its worker, uncharged. Its guard stays; a row may have been written."""
    task = s.task
    if s.budget.requeues and task is not None and task.status == PROCESSING:
        pending = task._replace(status=PENDING, holder=NOBODY, leased=False)
        taken = s if task.holder == NOBODY else now(s, task.holder, requeued=True)
        is_ending = task.holder != NOBODY and s.workers[task.holder].phase != "running"
        has_failed = is_ending or task.charged >= MAX_ATTEMPTS  # such an attempt counts as ever
        budget = s.budget._replace(requeues=0, tried=s.budget.tried if has_failed else max(s.budget.tried - 1, 0))
        yield Step("may", "requeue: PENDING", taken._replace(task=pending, budget=budget))


def _send_webhooks(w: World, s: State) -> Steps:
    """The sender reads the row; who tells an end settles first."""
    for run in (1, 2):
        if s.sql.webhooks[run - 1] == "due":
            shown = settle_from_sql(w, s, run) if w.rules.tellers_settle_first else s
            sql = s.sql._replace(webhooks=marked(s.sql.webhooks, run, "sent"))
            user = s.user._replace(told=marked(s.user.told, run, True))
            yield Step("must", f"webhook of run {run}", shown._replace(sql=sql, user=user))


def _time(w: World, s: State) -> Steps:
    if s.young and not any(
        worker.fresh and worker.phase not in ("idle", "cleared", "ended") and is_missing(w, s.task, worker.run)
        for worker in s.workers
    ):
        yield Step("must", "the epoch is one lease old", s._replace(young=False))
    if s.task is not None and s.task.status == FORGOTTEN and s.task.leased and s.user.delete not in ("blank", "mark"):
        yield Step("must", "the first mark of a DELETE that died expires", s._replace(task=None))
    for doubted in s.sql.doubted:
        if not any(request.message == doubted for request in s.requests):
            yield Step("must", "the doubt of a request that died goes", settle_refusal(s, doubted, refused=False))
    if not s.budget.due:
        yield Step("must", "not_before comes", s._replace(budget=s.budget._replace(due=True)))
    for k, message in enumerate(s.late):
        arrived = s._replace(late=s.late[:k] + s.late[k + 1 :], queue=(*s.queue, message))
        yield Step("may", "a late message arrives", arrived)
    if s.task is not None and s.task.status in OVER and is_calm(s):
        yield Step("may", f"{s.task.status} expires", s._replace(task=None))


def is_calm(s: State) -> bool:
    """Nobody is at work on the task."""
    return (
        all(worker.phase == "idle" for worker in s.workers)
        and not any(request.phase in BUSY for request in s.requests)
        and s.user.cancel not in ("row", "settle")
        and s.user.delete not in ("blank", "mark")
        and s.keeper.phase == "idle"
        and not any(webhook in ("due", "asleep") for webhook in s.sql.webhooks)
    )
