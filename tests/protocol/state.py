"""What exists in the searched world: one task with two runs, two workers, a few requests, three stores.

Every value is a tuple, so that a state can be a key. Message ids are small numbers without a meaning: they are only
ever compared, and `canonical.py` renumbers them. 0 is no message.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

NOBODY = -1
FRESH = 99
"""The id of a message made in this very step; there is one at most."""

CREATED, PENDING, PROCESSING, ENDED, ABORTED, FORGOTTEN = (
    "created",
    "PENDING",
    "PROCESSING",
    "ENDED",
    "aborted",
    "forgotten",
)
OVER = frozenset({ENDED, ABORTED, FORGOTTEN})
LIVING = frozenset({PENDING, PROCESSING})
HIDDEN = frozenset({CREATED, ABORTED})
"""Seen by nobody: a GET asks SQL instead."""

LAST_RUN = 2
MAX_ATTEMPTS = 2

COMPLETED, FAILED, CANCELLED, DEAD = "completed", "failed", "cancelled", "dead"
"""How a run can end; `dead` is FAILED because all attempts are used up."""


class Task(NamedTuple):
    """The hash in Redis."""

    status: str
    run: int
    guard: int = 0
    next_guard: int = 0
    holder: int = NOBODY  # the worker with the newest fencing token; nobody once that worker is gone
    leased: bool = False  # of `forgotten`: this is only DELETE's first mark, which expires
    cancel: bool = False
    charged: int = 0


class Message(NamedTuple):
    """A message in the broker; it carries all of its task."""

    id: int
    run: int


class Worker(NamedTuple):
    """A slot of a worker, with what it remembers."""

    phase: str = "idle"
    run: int = 0
    message: int = 0  # the message it works for
    delivery: bool = False  # whether it still holds that message, not acknowledged
    copy: int = 0  # a copy it is publishing
    purpose: str = ""  # why it copies, or how its run is to end
    fresh: bool = False  # its last good beat, or its claim, is younger than one lease
    requeued: bool = False  # an operator has taken its task from it, of which it hears at its next beat


class Request(NamedTuple):
    """A request that submits (run 1) or retries (run 2). Its answer is its last phase."""

    phase: str = "waiting"
    run: int = 1
    message: int = 0
    stale: bool = False  # Redis began another epoch since `create`
    again: bool = False  # it has started over


class Sql(NamedTuple):
    """What is remembered for good."""

    rows: tuple[str, str] = ("", "")  # how each run ended
    forgotten: bool = False  # the rows are blanked
    refused: tuple[int, ...] = ()  # messages of requests that were answered 503
    doubted: tuple[int, ...] = ()  # messages of requests that are about to be answered, 503 or otherwise
    webhooks: tuple[str, str] = ("", "")  # of each run: due | asleep (nobody knows that it is due) | sent
    dead: bool = False  # a copy lies in the queue `dead`


class User(NamedTuple):
    """What the owner does beside submitting."""

    cancel: str = "no"  # may | row | settle | done
    cancel_run: int = 0
    delete: str = "no"  # may | blank | mark | done
    told: tuple[bool, bool] = (False, False)  # whose end was told to anybody


class Keeper(NamedTuple):
    """The leader of housekeeping, while it publishes a new guard."""

    phase: str = "idle"
    copy: int = 0
    run: int = 0


class Budget(NamedTuple):
    """What may still happen, and what did."""

    faults: int = 0
    redis: bool = True  # Redis has not been emptied or restarted yet
    rabbit: bool = True  # RabbitMQ has not been emptied yet
    message: bool = True  # the broker has not lost a single message yet
    lossless: bool = True  # no store has lost anything
    releases: int = 0
    redrives: int = 0  # times the re-driver is wrong about a loss
    requeues: int = 0  # times an operator takes a running task from its worker
    due: bool = True  # not_before has passed
    tried: int = 0  # handlers started, less those that a shutdown stopped (counted where handlers fail)


class State(NamedTuple):
    """Everything."""

    task: Task | None
    young: bool  # the epoch is younger than one lease
    queue: tuple[Message, ...]
    late: tuple[Message, ...]  # published, unconfirmed, still on their way
    birth: bool  # the mark that RabbitMQ was not emptied
    sql: Sql
    workers: tuple[Worker, Worker]
    requests: tuple[Request, ...]
    user: User
    keeper: Keeper
    budget: Budget


class Step(NamedTuple):
    """One thing that can happen next.

    `must` will happen if nothing else does; `may` is a choice or luck; `fault` costs one of the budget.
    """

    kind: str
    label: str
    state: State
    wrong: tuple[str, ...] = ()


Steps = Iterator[Step]
IDLE = Worker()
BUSY = frozenset({"again", "asking", "publishing", "confirmed", "failed", "aborting", "refusing", "lifting", "unknown"})
"""Phases in which a request still owes its answer."""


def with_worker(s: State, i: int, worker: Worker) -> State:
    """Replace one worker."""
    return s._replace(workers=(worker, s.workers[1]) if i == 0 else (s.workers[0], worker))


def now(s: State, i: int, **changes: Any) -> State:
    """Change what one worker is about."""
    return with_worker(s, i, s.workers[i]._replace(**changes))


def without(messages: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    """Take one message off."""
    k = messages.index(message)
    return messages[:k] + messages[k + 1 :]


def marked(pair: tuple[Any, Any], run: int, value: Any) -> Any:
    """Replace the value of one run."""
    return (value, pair[1]) if run == 1 else (pair[0], value)


def end_of(run: int) -> Task:
    """The hash after `settle`."""
    return Task(ENDED, run)


FORGOTTEN_TASK = Task(FORGOTTEN, LAST_RUN)
"""It bars every run."""
