"""Scripts and statements that several actors use. Each is one step of whoever calls it."""

from typing import NamedTuple

from tests.protocol.rules import Rules
from tests.protocol.scenarios import Scenario
from tests.protocol.state import (
    DEAD,
    FORGOTTEN,
    FORGOTTEN_TASK,
    FRESH,
    HIDDEN,
    IDLE,
    MAX_ATTEMPTS,
    NOBODY,
    PROCESSING,
    Message,
    State,
    Task,
    end_of,
    marked,
    with_worker,
)


class World(NamedTuple):
    """What does not change during a search."""

    rules: Rules
    scenario: Scenario


def settle(w: World, s: State, run: int) -> State:
    """The script: the winning row's document into Redis, whatever token is there."""
    return s._replace(task=end_of(run)) if _may_settle(w.rules, s.task, run) else s


def _may_settle(rules: Rules, task: Task | None, run: int) -> bool:
    if task is None:
        return not rules.settle_never_makes_a_hash
    if rules.settle_compares_runs and (task.status == FORGOTTEN or task.run > run):
        return False
    if rules.settle_leaves_the_hidden and task.status in HIDDEN:
        return False
    return task.run == run or rules.settle_lifts_a_lower_run or not rules.settle_compares_runs


def settle_from_sql(w: World, s: State, run: int) -> State:
    """Settle by what SQL says; of a forgotten task it says nothing more than that."""
    if s.sql.forgotten:
        return mark_forgotten(s)
    return settle(w, s, run)


def insert_row(w: World, s: State, run: int, outcome: str) -> tuple[State, tuple[str, ...]]:
    """INSERT … ON CONFLICT DO NOTHING: the end of a run, with its webhook due; and what is wrong with it."""
    sql = s.sql
    there = sql.rows[run - 1]
    if (sql.forgotten and w.rules.forgotten_bars_rows) or (there and w.rules.first_row_wins):
        return s, ()
    wrong: tuple[str, ...] = ("DELETED_CAME_BACK",) if sql.forgotten else ()
    if there not in ("", outcome):
        wrong += ("ROW_CHANGED",)
    if outcome == DEAD and s.budget.tried < MAX_ATTEMPTS:
        wrong += ("GAVE_UP_EARLY",)
    webhook = "due" if w.rules.row_carries_the_webhook else "asleep"
    return s._replace(
        sql=sql._replace(rows=marked(sql.rows, run, outcome), webhooks=marked(sql.webhooks, run, webhook))
    ), wrong


def wake_webhooks(s: State, run: int) -> State:
    """The wake-up message to `webhooks`: it matters only to a row that does not say itself that it is due."""
    if s.sql.webhooks[run - 1] != "asleep":
        return s
    return s._replace(sql=s.sql._replace(webhooks=marked(s.sql.webhooks, run, "due")))


def has_ended(s: State, run: int) -> bool:
    """Whether SQL has a row of this run or a later one."""
    return any(s.sql.rows[run - 1 :])


def sql_bars(w: World, s: State, message: Message) -> str:
    """What SQL says against running a task from this message; '' if nothing."""
    if s.sql.forgotten and w.rules.asks_for_forgotten:
        return "forgotten"
    if message.id in s.sql.refused and w.rules.asks_for_refused:
        return "refused"
    if w.rules.asks_for_a_row and has_ended(s, message.run):
        return "a row"
    return ""


def is_missing(w: World, task: Task | None, run: int) -> bool:
    """Whether Redis knows nothing of this run: no hash, or an older run's."""
    return task is None or (task.run < run and w.rules.runs_are_compared)


def accepts(w: World, task: Task, message: int) -> bool:
    """Whether the hash takes this message for its guard."""
    if message == task.guard or task.guard == 0 or not w.rules.only_the_guard_claims:
        return True
    return message == task.next_guard and w.rules.next_guard_claims


def hand_out_copy(s: State, task: Task) -> State:
    """What every script does that decides on a copy: it names the copy before it is published."""
    return s._replace(task=task._replace(next_guard=FRESH))


def promote(s: State, copy: int) -> State:
    """The script: the confirmed copy is the guard, unless another copy was decided on meanwhile."""
    task = s.task
    if task is None or task.next_guard != copy:
        return s
    return s._replace(task=task._replace(guard=copy, next_guard=0))


def must_keep(w: World, task: Task | None, old: Message) -> bool:
    """Whether promote answers KEEP: nothing shows that another message than the old one guards the task.

    The copy may have come before it was promoted, and been dropped.
    """
    return w.rules.promote_may_answer_keep and (
        is_missing(w, task, old.run) or task is None or task.guard in (0, old.id)
    )


def charge(w: World, task: Task) -> Task:
    """A lost worker is charged to the task."""
    if not w.scenario.fails or not w.rules.lost_workers_are_charged:
        return task
    return task._replace(charged=min(task.charged + 1, MAX_ATTEMPTS))


def free(s: State, i: int, *, acknowledge: bool) -> State:
    """The worker is idle again; what it held is acknowledged, or goes back to the queue."""
    worker, task = s.workers[i], s.task
    s = with_worker(s, i, IDLE)
    if worker.delivery and not acknowledge:
        s = s._replace(queue=(*s.queue, Message(worker.message, worker.run)))
    if task is not None and task.holder == i:
        s = s._replace(task=task._replace(holder=NOBODY))
    return s


def starting(s: State, i: int, run: int) -> tuple[str, ...]:
    """What is wrong with a handler that starts now."""
    answers = {request.phase for request in s.requests if request.run == run and request.phase != "waiting"}
    other = s.workers[1 - i]
    wrong: tuple[str, ...] = ()
    if answers == {"503"}:
        wrong += ("RAN_AFTER_503",)
    if s.user.told[run - 1]:
        wrong += ("RAN_AFTER_ITS_END_WAS_TOLD",)
    if s.user.delete == "done":
        wrong += ("DELETED_CAME_BACK",)
    if not s.budget.due:
        wrong += ("RAN_TOO_EARLY",)
    # Who was requeued works on until its next beat; and for good if Redis was emptied before that, and it restores.
    working = other.phase == "running" and other.fresh and not other.requeued and not s.workers[i].requeued
    if working and other.run == run and not s.sql.rows[run - 1]:
        wrong += ("LIVE_WORKER_ROBBED",)
    if s.budget.tried >= MAX_ATTEMPTS and s.budget.lossless:
        wrong += ("TOO_MANY_ATTEMPTS",)
    return wrong


def count_start(w: World, s: State) -> State:
    """A handler starts: one attempt."""
    if not w.scenario.fails:
        return s
    return s._replace(budget=s.budget._replace(tried=min(s.budget.tried + 1, MAX_ATTEMPTS)))


def holds(w: World, s: State, i: int) -> bool:
    """Whether a script finds this worker's fencing token to be the newest."""
    task = s.task
    if task is None or task.status != PROCESSING or task.run != s.workers[i].run:
        return False
    return task.holder == i or not w.rules.only_the_newest_token_changes


def mark_forgotten(s: State) -> State:
    """The script of DELETE: the hash says `forgotten`, and is made if it is missing."""
    return s._replace(task=FORGOTTEN_TASK)


def settle_refusal(s: State, message: int, *, refused: bool) -> State:
    """The row about an unconfirmed message: no longer in doubt, but refused, or gone."""
    sql = s.sql
    doubted = tuple(other for other in sql.doubted if other != message)
    kept = tuple(other for other in sql.refused if other != message)
    return s._replace(sql=sql._replace(doubted=doubted, refused=(*kept, message) if refused else kept))
