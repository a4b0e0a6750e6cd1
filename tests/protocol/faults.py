"""What may break. Each fault costs one of the scenario's budget; the losses of confirms stand beside each publish."""

from tests.protocol.housekeeping import is_guarded
from tests.protocol.state import (
    BUSY,
    HIDDEN,
    IDLE,
    Keeper,
    Message,
    State,
    Step,
    Steps,
    Worker,
    now,
    with_worker,
    without,
)
from tests.protocol.stores import World, free


def steps(w: World, s: State) -> Steps:
    """Everything that can break now."""
    kinds = w.scenario.kinds
    for i in (0, 1):
        if s.workers[i].phase not in ("idle", "cleared"):  # who has changed nothing yet may as well wait
            yield from _worker(w, s, i)
    if "kill" in kinds:
        yield from _kill_others(s)
    if "channel" in kinds:
        yield from _lost_after_receipt(w, s)
    if "redis" in kinds and s.budget.redis and _is_republished(w, s):
        yield from _redis(w, s)
    if "rabbit" in kinds and s.budget.rabbit and _is_rebuilt(s):
        yield from _rabbit(w, s)
    if "loss" in kinds and s.budget.message and _is_rebuilt(s):
        lossy = s._replace(budget=s.budget._replace(message=False, lossless=False))
        for message in set(s.queue):
            yield Step("fault", "THE BROKER LOSES A MESSAGE", lossy._replace(queue=without(s.queue, message)))


def _worker(w: World, s: State, i: int) -> Steps:
    worker, kinds = s.workers[i], w.scenario.kinds
    if "kill" in kinds:
        yield Step("fault", f"WORKER KILLED ({worker.phase})", free(s, i, acknowledge=False))
    if "pause" in kinds and worker.fresh:
        yield Step("fault", f"WORKER PAUSED past its lease ({worker.phase})", _paused(s, i))
    if "channel" in kinds and worker.delivery:
        yield Step("fault", f"CHANNEL LOST ({worker.phase})", _lost(s, i))


def _kill_others(s: State) -> Steps:
    if s.keeper.phase != "idle":
        yield Step("fault", "LEADER KILLED", s._replace(keeper=Keeper()))
    if s.young and s.task is None:
        for message in set(s.queue):
            yield Step("fault", "KILLED between a blind copy and its ack", s._replace(queue=(*s.queue, message)))


def _paused(s: State, i: int) -> State:
    task = s.task
    if task is not None and task.holder == i:
        s = s._replace(task=task._replace(leased=False))
    return now(s, i, fresh=False)


def _lost(s: State, i: int) -> State:
    """The broker gives the message to somebody else; this worker's acknowledgement will mean nothing."""
    worker = s.workers[i]
    return now(s._replace(queue=(*s.queue, Message(worker.message, worker.run))), i, delivery=False)


def _lost_after_receipt(w: World, s: State) -> Steps:
    """A delivery waits in a worker's buffer while its channel is lost: harmless, if it is discarded."""
    for i in (0, 1):
        worker = s.workers[i]
        if worker.phase == "cleared" and worker.delivery:
            yield Step("fault", "CHANNEL LOST (cleared)", _lost(s, i))
        elif worker.phase == "idle" and not w.rules.lost_deliveries_are_discarded:
            for message in set(s.queue):
                void = Worker("cleared", message.run, message.id)
                yield Step("fault", "CHANNEL LOST after a receipt", with_worker(s, i, void))


def _redis(w: World, s: State) -> Steps:
    """Emptied, or restarted with its data: another epoch in either case."""
    requests = tuple(request._replace(stale=True) if request.phase in BUSY else request for request in s.requests)
    after = s._replace(young=True, requests=requests)
    for i in (0, 1):
        if s.workers[i].phase == "cleared" and w.rules.rebuild_names_its_epoch:
            after = free(after, i, acknowledge=False)  # starts over
    after = after._replace(budget=s.budget._replace(redis=False))
    yield Step("fault", "REDIS RESTARTED", after)
    if s.task is not None:
        lossy = after.budget._replace(lossless=False)
        yield Step("fault", "REDIS EMPTIED", after._replace(task=None, budget=lossy))


def _is_rebuilt(s: State) -> bool:
    """RabbitMQ may be emptied once what Redis lost stands there again."""
    if s.young:
        return False
    if s.budget.lossless or (s.task is not None and s.task.status not in HIDDEN):
        return True
    return not s.queue and s.workers == (IDLE, IDLE)


def _is_republished(w: World, s: State) -> bool:
    """Redis may be emptied once what RabbitMQ lost lies there again."""
    return s.birth and (s.budget.message or s.task is None or is_guarded(w, s, s.task))


def _rabbit(w: World, s: State) -> Steps:
    if not s.queue and not any(worker.delivery for worker in s.workers):
        return
    budget = s.budget._replace(rabbit=False, lossless=False)
    emptied = s._replace(queue=(), late=(), birth=False, budget=budget)
    if not w.rules.row_carries_the_webhook:
        first, second = ("asleep" if webhook == "due" else webhook for webhook in s.sql.webhooks)
        emptied = emptied._replace(sql=s.sql._replace(webhooks=(first, second)))
    for i in (0, 1):
        if s.workers[i].delivery:
            emptied = now(emptied, i, delivery=False)
    yield Step("fault", "RABBITMQ EMPTIED", emptied)
    if not w.rules.lost_deliveries_are_discarded:
        for i in (0, 1):
            for message in set(s.queue) if s.workers[i].phase == "idle" else ():
                void = Worker("cleared", message.run, message.id)
                yield Step("fault", "RABBITMQ EMPTIED after a receipt", with_worker(emptied, i, void))
