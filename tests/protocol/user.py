"""What the owner does beside submitting: cancel, and DELETE."""

from tests.protocol.state import CANCELLED, ENDED, FORGOTTEN_TASK, PENDING, PROCESSING, State, Step, Steps
from tests.protocol.stores import World, insert_row, mark_forgotten, settle, wake_webhooks


def steps(w: World, s: State) -> Steps:
    """What the owner can do next."""
    if s.user.cancel in ("may", "row", "settle"):
        yield from cancel(w, s)
    if s.user.delete in ("may", "blank", "mark"):
        yield from delete(w, s)


def cancel(w: World, s: State) -> Steps:
    """A PENDING task ends by its row, before the 202; a PROCESSING one is flagged."""
    user, task, run = s.user, s.task, s.user.cancel_run
    done = user._replace(cancel="done", cancel_run=0)
    if user.cancel == "may":
        if task is not None and task.status == PENDING:
            yield Step("may", "cancel: sees PENDING", s._replace(user=user._replace(cancel="row", cancel_run=task.run)))
        elif task is not None and task.status == PROCESSING:
            yield Step("may", "cancel: flag, 202", s._replace(user=done, task=task._replace(cancel=True)))
        return
    if user.cancel == "row":
        after, wrong = insert_row(w, s, run, CANCELLED)
        barred = s.sql.forgotten and w.rules.barred_rows_are_not_settled
        user = done if barred else user._replace(cancel="settle")
        yield Step("must", "cancel: row", after._replace(user=user), wrong)
    else:
        yield Step("must", "cancel: settles, 202", wake_webhooks(settle(w, s, run), run)._replace(user=done))
    if s.budget.faults and "kill" in w.scenario.kinds:
        yield Step("fault", "cancel: API KILLED", s._replace(user=done))


def delete(w: World, s: State) -> Steps:
    """The hash is marked, the rows are blanked, the hash is marked again; then 204."""
    user, rules = s.user, w.rules
    if user.delete == "may":
        if any(s.sql.rows) and (s.task is None or s.task.status == ENDED):
            first_mark = FORGOTTEN_TASK._replace(leased=rules.first_mark_is_provisional)
            after = s._replace(task=first_mark) if rules.delete_marks_first else s
            yield Step("may", "DELETE: marks the hash", after._replace(user=user._replace(delete="blank")))
        return
    if user.delete == "blank":
        after = s._replace(sql=s.sql._replace(forgotten=True))
        phase = "mark" if rules.delete_marks_again else "done"
        yield Step("must", "DELETE: blanks the rows", after._replace(user=user._replace(delete=phase)))
    else:
        after = mark_forgotten(s)._replace(user=user._replace(delete="done"))
        yield Step("must", "DELETE: marks the hash again, 204", after)
    if s.budget.faults and "kill" in w.scenario.kinds:
        yield Step("fault", "DELETE: API KILLED", s._replace(user=user._replace(delete="no")))
