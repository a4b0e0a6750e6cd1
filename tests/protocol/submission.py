"""The API's requests: a submission of run 1, or a retry, which is a submission of run 2."""

from tests.protocol.state import (
    ABORTED,
    BUSY,
    CANCELLED,
    CREATED,
    DEAD,
    ENDED,
    FAILED,
    FORGOTTEN,
    FRESH,
    LIVING,
    PENDING,
    Message,
    Request,
    State,
    Step,
    Steps,
    Task,
    end_of,
    marked,
)
from tests.protocol.stores import World, mark_forgotten, settle, settle_refusal


def steps(w: World, s: State, j: int) -> Steps:
    """What one request can do next."""
    request = s.requests[j]
    begins = PHASES.get(request.phase)
    if begins is None:
        return
    who = "retry" if request.run > 1 else "submit"
    for step in begins(w, s, j, request):
        yield step._replace(label=f"{who}: {step.label}")
    if request.phase in BUSY and s.budget.faults and "kill" in w.scenario.kinds:
        yield Step("fault", f"{who}: API KILLED ({request.phase})", _to(s, j, "500"))


def _to(s: State, j: int, phase: str, **changes: object) -> State:
    """Bring a request to its next phase; an answered one remembers nothing."""
    request = s.requests[j]
    request = request._replace(phase=phase, **changes) if phase in BUSY else Request(phase, request.run)  # type: ignore[arg-type]
    return s._replace(requests=(*s.requests[:j], request, *s.requests[j + 1 :]))


def _is_its_own(w: World, task: Task | None, request: Request) -> bool:
    """`created`, and by this very request."""
    if task is None or task.status != CREATED or task.run != request.run:
        return False
    return task.guard == request.message or not w.rules.abort_takes_only_its_own


def create(w: World, s: State, j: int, request: Request) -> Steps:
    """The script that begins a task, or finds it."""
    task, rules = s.task, w.rules
    keyed = w.scenario.keyed > 0 and request.run == 1
    kind = "may" if request.phase == "waiting" else "must"
    if request.run > 1:
        if not _may_retry(w, s):
            return
    elif request.phase == "waiting" and sum(other.phase in BUSY for other in s.requests if other.run == 1) > 1:
        return  # two race; a third comes later
    elif task is not None and task.status == CREATED and rules.replays_publish:
        phase = "asking" if rules.replays_ask else "publishing"
        yield Step(kind, "create finds created", _to(s, j, phase, message=FRESH, stale=False))
        return
    elif task is not None and task.status != ABORTED:
        answer = "500" if task.status == FORGOTTEN else "202"
        yield Step(kind, f"create finds {task.status}: replay", _to(s, j, answer))
        return
    elif s.young and keyed and rules.young_epochs_create_nothing:
        return
    created = s._replace(task=Task(CREATED, request.run, FRESH), budget=s.budget._replace(tried=0))
    asks = request.run > 1 or (keyed and rules.keyed_creates_ask)
    yield Step(kind, "create", _to(created, j, "asking" if asks else "publishing", message=FRESH, stale=False))
    if s.budget.faults and "confirm" in w.scenario.kinds:
        yield Step("fault", "REPLY OF CREATE LOST, 500", _to(created, j, "500"))


def _may_retry(w: World, s: State) -> bool:
    """FAILED or CANCELLED, by the hash or, without one, by the newest row."""
    if s.sql.rows[0] not in (FAILED, CANCELLED, DEAD) or s.sql.rows[1]:
        return False
    if s.task is None:
        return not s.sql.forgotten and not (s.young and w.rules.retries_wait_in_young_epochs)
    return s.task.status == ENDED and s.task.run == 1


def ask(w: World, s: State, j: int, request: Request) -> Steps:
    """What does SQL know? After `create`, before the publish."""
    mine, settles = _is_its_own(w, s.task, request), w.rules.found_ends_are_settled
    removed = s._replace(task=None) if mine else s
    if s.sql.forgotten and (request.run == 1 or w.rules.retries_ask):
        yield Step("must", "SQL: forgotten, 410", _to(mark_forgotten(s) if mine and settles else removed, j, "500"))
    elif request.run == 1 and any(s.sql.rows):
        run = 2 if s.sql.rows[1] else 1
        found = s._replace(task=end_of(run)) if mine and settles else settle(w, removed, run)
        told = s.user._replace(told=marked(s.user.told, run, True))
        yield Step("must", "SQL: a row, answers from it", _to(found._replace(user=told), j, "202"))
    else:
        yield Step("must", "SQL knows nothing", _to(s, j, "publishing"))


def publish(w: World, s: State, j: int, request: Request) -> Steps:
    """The message, and its confirm."""
    message = Message(request.message, request.run)
    arrived = s._replace(queue=(*s.queue, message))
    yield Step("must", "publishes", _to(arrived, j, "confirmed"))
    if s.budget.faults and "confirm" in w.scenario.kinds:
        yield Step("fault", "CONFIRM LOST, arrived", _to(arrived, j, "failed"))
        yield Step("fault", "CONFIRM LOST, comes late", _to(s._replace(late=(*s.late, message)), j, "failed"))
        yield Step("fault", "PUBLISH LOST", _to(s, j, "failed"))


def queued(w: World, s: State, j: int, request: Request) -> Steps:
    """The script that makes the task promised and seen; without a hash the message alone is enough, but under a key."""
    task, rules = s.task, w.rules
    stranger = request.stale and rules.queued_names_its_epoch
    if stranger and _is_its_own(w, task, request) and rules.queued_knows_its_own:
        stranger = False
    if task is None or stranger or (task.status == ABORTED and rules.aborted_is_no_hash):
        if w.scenario.keyed and request.run == 1 and rules.queued_starts_over:
            yield Step("must", "queued: no hash, starts over", _to(s, j, "again", message=0, stale=False, again=True))
        else:
            yield Step("must", "queued: no hash, 202", _to(s, j, "202"))
    elif task.status == CREATED and task.run == request.run:
        seen = s._replace(task=task._replace(status=PENDING, guard=request.message))
        yield Step("must", "queued, 202", _to(seen, j, "202"))
    else:
        yield Step("must", f"queued finds {task.status}, 202", _to(s, j, "202"))


def doubt(w: World, s: State, j: int, request: Request) -> Steps:
    """A publish failed or timed out: a row says so before the script, and whoever meets the message waits."""
    rules = w.rules
    if not rules.doubted_before_abort:
        yield from abort(w, s, j, request)
    elif rules.refusals_begin_as_doubts:
        doubted = s._replace(sql=s.sql._replace(doubted=(*s.sql.doubted, request.message)))
        yield Step("must", "doubts its message", _to(doubted, j, "aborting"))
    else:
        yield Step("must", "refuses its message", _to(settle_refusal(s, request.message, refused=True), j, "aborting"))


def abort(w: World, s: State, j: int, request: Request) -> Steps:
    """The script: a tombstone in place of `created`, if it is this request's own."""
    task, rules = s.task, w.rules
    if task is not None and _is_its_own(w, task, request):
        aborted = s._replace(task=end_of(1) if request.run > 1 else task._replace(status=ABORTED))
        yield Step("must", "aborts", _to(aborted, j, "refusing"))
    elif _is_alive(task, request):
        yield Step("must", "abort finds it alive", _to(s, j, "lifting"))
    elif rules.nothing_to_abort_is_unknown:
        yield Step("must", "abort finds nothing of its own", _to(s, j, "unknown"))
    else:
        yield Step("must", "abort finds nothing of its own", _to(s, j, "refusing"))


def _is_alive(task: Task | None, request: Request) -> bool:
    return task is not None and task.run >= request.run and (task.status in LIVING or task.status == ENDED)


def refuse(w: World, s: State, j: int, request: Request) -> Steps:
    """The task was taken back: the doubt becomes a refusal, and only then is the request answered."""
    if request.again and w.rules.twice_is_unknown:
        yield Step("must", "refuses its message, 500", _to(settle_refusal(s, request.message, refused=True), j, "500"))
    else:
        yield Step("must", "refuses its message, 503", _to(settle_refusal(s, request.message, refused=True), j, "503"))


def lift(w: World, s: State, j: int, request: Request) -> Steps:
    """The task is alive after all, or nothing is known: the doubt goes."""
    if w.rules.doubts_are_lifted:
        s = settle_refusal(s, request.message, refused=False)
    answer = "202" if request.phase == "lifting" else "500"
    yield Step("must", f"takes its doubt back, {answer}", _to(s, j, answer))


PHASES = {
    "waiting": create,
    "again": create,
    "asking": ask,
    "publishing": publish,
    "confirmed": queued,
    "failed": doubt,
    "aborting": abort,
    "refusing": refuse,
    "lifting": lift,
    "unknown": lift,
}
