"""Which states are the same: those that differ only in message ids, in which worker is which, or in which request.

The map is not perfect: two states that are the same may keep two names. That costs time and hides nothing.
"""

from tests.protocol.state import ENDED, HIDDEN, IDLE, NOBODY, Message, Request, State, Task, Worker

UNNAMED = 50


def canonical(s: State) -> State:
    """Return the one state that stands for all that are the same as this one."""
    task, requests, keeper = s.task, s.requests, s.keeper
    (first, second), swapped = _in_order(s.workers, task)
    if swapped and task is not None and task.holder != NOBODY:
        task = task._replace(holder=1 - task.holder)
    if len(requests) > 1:
        guard = -1 if task is None else task.guard
        requests = tuple(sorted(requests, key=lambda r: (r.run, r.phase, r.stale, r.again, r.message == guard)))

    names = {0: 0}
    if task is not None and (task.guard or task.next_guard):
        task = task._replace(guard=_name(names, task.guard), next_guard=_name(names, task.next_guard))
    requests = tuple([_renamed_request(names, request) for request in requests])
    first, second = _renamed_worker(names, first), _renamed_worker(names, second)
    if keeper.copy:
        keeper = keeper._replace(copy=_name(names, keeper.copy))
    sql, queue, late = s.sql, s.queue, s.late
    if queue:
        queue = _renamed(names, queue, sql.refused)
    if late:
        late = _renamed(names, late, sql.refused)
    if sql.refused or sql.doubted:
        sql = sql._replace(refused=_known(names, sql.refused), doubted=_known(names, sql.doubted))
    return State(task, s.young, queue, late, s.birth, sql, (first, second), requests, s.user, keeper, s.budget)


def hear(s: State) -> State:
    """Let everybody look: an end is told as soon as Redis shows it, or shows nothing and SQL has its row."""
    task, rows, user = s.task, s.sql.rows, s.user
    if task is None or task.status in HIDDEN:
        told = (user.told[0] or bool(rows[0]), user.told[1] or bool(rows[1]))
    elif task.status == ENDED:
        told = (user.told[0] or task.run == 1, user.told[1] or task.run > 1)
    else:
        return s
    return s if told == user.told else s._replace(user=user._replace(told=told))


def _in_order(workers: tuple[Worker, Worker], task: Task | None) -> tuple[tuple[Worker, Worker], bool]:
    first, second = workers
    if second is IDLE or (first == second and task is None):
        return workers, False
    holder = NOBODY if task is None else task.holder
    if _rank(second, holder == 1) < _rank(first, holder == 0):
        return (second, first), True
    return workers, False


def _rank(worker: Worker, is_holder: bool) -> tuple[object, ...]:
    return (
        worker.phase == "idle", worker.phase, worker.run, worker.purpose, worker.fresh, worker.delivery,
        worker.requeued, is_holder
    )  # fmt: skip


def _name(names: dict[int, int], message: int) -> int:
    return names.setdefault(message, len(names))


def _renamed_request(names: dict[int, int], request: Request) -> Request:
    return request._replace(message=_name(names, request.message)) if request.message else request


def _renamed_worker(names: dict[int, int], worker: Worker) -> Worker:
    if not worker.message:
        return IDLE
    message = _name(names, worker.message)
    copy = _name(names, worker.copy) if worker.copy else 0
    if message == worker.message and copy == worker.copy:
        return worker
    return worker._replace(message=message, copy=copy)


def _known(names: dict[int, int], messages: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({names[message] for message in messages if message in names}))


def _renamed(names: dict[int, int], messages: tuple[Message, ...], refused: tuple[int, ...]) -> tuple[Message, ...]:
    if len(messages) == 1:
        return (Message(_name(names, messages[0].id), messages[0].run),)
    ordered = sorted(messages, key=lambda m: (names.get(m.id, UNNAMED), m.id in refused, m.run))
    return tuple(sorted([Message(_name(names, message.id), message.run) for message in ordered]))
