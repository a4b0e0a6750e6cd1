"""What must never happen, and what must always still be possible."""

from collections.abc import Iterator

from tests.protocol.housekeeping import is_calm, is_guarded
from tests.protocol.state import DEAD, ENDED, LIVING, OVER, PROCESSING, State, Task
from tests.protocol.stores import World, accepts

MEANINGS = {
    # found at a step
    "RAN_AFTER_503": "a handler starts, and every request for its run was answered 503 (invariant 5)",
    "RAN_AFTER_ITS_END_WAS_TOLD": "a handler starts, or goes on under a new hash, when its end was told (3, 4)",
    "RAN_TOO_EARLY": "a handler starts before not_before",
    "TOO_MANY_ATTEMPTS": "a handler starts once more than max_attempts, though no store lost anything",
    "LIVE_WORKER_ROBBED": "a handler starts while another worker, with a fresh beat, runs the same run",
    "LATE_WORKER_CHANGED_IT": "a worker without the newest token changes a living task (2)",
    "ROW_CHANGED": "the row of a run's end is replaced by another (3)",
    "GAVE_UP_EARLY": "a run is dead before its attempts are used up",
    "DELETED_CAME_BACK": "after DELETE's 204 there is a row, a handler or a hash again (6)",
    # found in a state
    "SHOWN_WITHOUT_ROW": "Redis shows an end that SQL does not have (3)",
    "OLDER_RUN_SHOWN": "a retry was promised or has ended, and Redis shows the end of the run before (4)",
    "PROMISE_DELETED": "DELETE took a retry that was promised and had not ended (1)",
    "ROW_AFTER_503": "a run ends that nobody was promised (5)",
    "NO_GUARD": "a task without a row has no message that its hash takes, though the broker lost nothing (1)",
    "COPIES_GROW": "messages of a running task multiply",
    # found in the graph
    "NO_GOOD_END": "a state from which no promise can be kept any more, whatever happens (1)",
}


def broken(w: World, s: State) -> Iterator[str]:
    """Name what is wrong with a state."""
    task = s.task
    for run in (1, 2):
        if s.sql.rows[run - 1] and _answers(s, run) == {"503"}:
            yield "ROW_AFTER_503"
    if s.sql.forgotten and s.budget.lossless and "202" in _answers(s, 2) and not s.sql.rows[1]:
        yield "PROMISE_DELETED"
    if not s.queue and (task is None or task.status in OVER) and is_calm(s) and not is_good_end(s):
        yield "NO_GOOD_END"  # nothing moves any more: no need to wait for the whole graph
    if task is not None and task.status == ENDED:
        yield from _broken_end(s, task)
    elif task is not None and task.status in LIVING:
        yield from _broken_life(w, s, task)


def _broken_end(s: State, task: Task) -> Iterator[str]:
    if not s.sql.rows[task.run - 1]:
        yield "SHOWN_WITHOUT_ROW"
    if s.user.delete == "done":
        yield "DELETED_CAME_BACK"
    promised = s.budget.lossless and "202" in _answers(s, 2)
    if task.run == 1 and not s.sql.forgotten and (promised or (s.sql.rows[1] and is_calm(s))):
        yield "OLDER_RUN_SHOWN"


def _broken_life(w: World, s: State, task: Task) -> Iterator[str]:
    if s.user.delete == "done":
        yield "DELETED_CAME_BACK"
    lives = not s.sql.forgotten and not s.sql.rows[task.run - 1]
    if lives and s.budget.rabbit and s.budget.message and not is_guarded(w, s, task):
        yield "NO_GUARD"
    if task.status == PROCESSING and task.guard:
        taken = {message.id for message in s.queue if message.run == task.run and accepts(w, task, message.id)}
        if len(taken) > 2:
            yield "COPIES_GROW"


def _answers(s: State, run: int) -> set[str]:
    return {request.phase for request in s.requests if request.run == run and request.phase != "waiting"}


def is_good_end(s: State) -> bool:
    """Every promise is kept, nothing is under way, and Redis shows the newest end or nothing."""
    if s.queue or not is_calm(s):
        return False
    if s.task is not None and s.task.status not in OVER:
        return False
    if s.sql.forgotten:
        return True
    if s.task is not None and s.task.status == ENDED and any(s.sql.rows[s.task.run :]):
        return False
    if DEAD in s.sql.rows and not s.sql.dead:
        return False
    return all(s.sql.rows[request.run - 1] for request in s.requests if request.phase == "202")
