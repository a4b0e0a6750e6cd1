"""Cast: who acts on the one task, and what each remembers: messages, workers, epochs, rows."""

from dataclasses import dataclass, replace
from typing import Any, Final

from app.domain.envelope import Callback, Envelope
from app.domain.lifecycle import TaskStatus
from app.domain.moments import milliseconds, moment
from app.domain.problem import Problem
from app.domain.task import Owner, ResultFile, Task
from app.store.keys import PUBLIC_FIELDS
from app.store.records import pending_task, visible_task
from app.store.replies import Claimed
from tests.store.model.shard import Shard
from tests.store.stage import TASK_ID, Seen

OWNER: Final = Owner("https://issuer.example", "Zoë")
MAX_ATTEMPTS: Final = 2


@dataclass(frozen=True)
class Worker:
    """What a worker remembers of its attempt: enough to bring the task back."""

    name: str
    envelope: Envelope
    token: int
    progress: int
    checkpoint: bytes | None


class Cast:
    """Finds the one that is meant: the right one, or whatever else may come late."""

    def __init__(self) -> None:
        self._names = 0
        self._messages: dict[str, Envelope] = {}
        self._workers: list[Worker] = []
        self._epochs = [b""]
        self._rows: dict[int, Task] = {}
        self._last: Task | None = None

    def name(self, what: str) -> str:
        """Return a name that nobody has had."""
        self._names += 1
        return f"{what} {self._names}"

    def saw(self, seen: Seen) -> None:
        """Remember the epoch, and what the task looked like."""
        if seen.epoch and seen.epoch["id"] != self._epochs[-1]:
            self._epochs.append(seen.epoch["id"])
        if seen.hash:
            self._last = visible_task(TASK_ID, [seen.hash.get(name) for name in PUBLIC_FIELDS]) or self._last

    def epoch(self, which: str) -> bytes:
        """Find an epoch: `this`, `an older one`, or none."""
        at = {"this": -1, "an older one": -2}.get(which, 0)
        return self._epochs[at] if len(self._epochs) >= -at else b""

    # --- messages

    def order(self, now: int, *, keyed: bool, delay: int) -> Envelope:
        """Write an order of run 1, in a message of its own."""
        envelope = Envelope(
            task_id=TASK_ID,
            message_id=self.name("message"),
            action="noop",
            queue="bench",
            owner=OWNER,
            params={},
            labels=("größe", "=1") if keyed else (),
            max_attempts=MAX_ATTEMPTS,
            created_at=now,
            not_before=now + delay if delay else 0,
            fingerprint="f" * 8 if keyed else None,
            callback=Callback(url="http://127.0.0.1/", events=("completed",)) if keyed else None,
        )
        return self.sent(envelope)

    def order_again(self, ended: Task) -> Envelope:
        """Write the order of an ended task for its next run."""
        return self.sent(
            self.order(milliseconds(ended.created_at), keyed=False, delay=0).model_copy(
                update={
                    "run": ended.run + 1,
                    "labels": ended.labels,
                    "fingerprint": ended.fingerprint,
                    "callback": Callback(url="http://127.0.0.1/", events=()) if ended.has_callback else None,
                    "max_attempts": ended.max_attempts,
                    "attempt": ended.attempt,
                    "checkpoint_progress": 10,
                }
            )
        )

    def sent(self, envelope: Envelope) -> Envelope:
        """Let a message be in the broker."""
        self._messages[envelope.message_id] = envelope
        return envelope

    def message(self, which: str, model: Shard) -> Envelope:
        """Find a message: `guard`, `next_guard`, `newest`, `older`, `oldest`, `unknown`."""
        if not self._messages:
            self.order(model.now, keyed=True, delay=0)
        wanted = model.text(which) if which in ("guard", "next_guard") else ""
        envelopes = list(self._messages.values())
        if which == "unknown":
            return envelopes[-1].succeeded_by(self.name("unknown"))
        at = {"older": -2, "oldest": 0}.get(which, -1)
        return self._messages.get(wanted) or envelopes[max(at, -len(envelopes))]

    # --- workers

    @property
    def has_workers(self) -> bool:
        """Whether anybody has claimed it yet."""
        return bool(self._workers)

    def hired(self, name: str, envelope: Envelope, claimed: Claimed) -> None:
        """Let a worker begin an attempt."""
        held = envelope.model_copy(
            update={
                "attempt": claimed.attempt,
                "charged": claimed.charged,
                "not_before": 0,
                "checkpoint_progress": claimed.progress,
            }
        )
        self._workers.append(Worker(name, held, claimed.token, claimed.progress, claimed.checkpoint))

    def worker(self, which: str, model: Shard) -> Worker:
        """Find a worker: the `holder`, an `older` one; or the newest with `another run` or `another token`."""
        newest = self._workers[-1]
        match which:
            case "older":
                return self._workers[max(-2, -len(self._workers))]
            case "another run":
                return replace(newest, envelope=newest.envelope.succeeded_by("other", run=newest.envelope.run + 1))
            case "another token":
                return replace(newest, token=newest.token + 1)
            case _:
                token = model.number("token")
                return next((worker for worker in reversed(self._workers) if worker.token == token), newest)

    def learnt(self, worker: Worker, **changes: Any) -> None:
        """Let a worker remember more."""
        if worker in self._workers:
            self._workers[self._workers.index(worker)] = replace(worker, **changes)

    # --- rows

    @property
    def newest_run(self) -> int:
        """The newest run that has a row, 0 if none has."""
        return max(self._rows, default=0)

    def row(self, run: int, status: str, model: Shard, *, room: int) -> Task:
        """Return the row of a run, written now if there is none; the first one wins."""
        last = self._last or pending_task(self.message("newest", model), seq=model.now)
        now = moment(model.now)
        error = Problem(type="/problems/x", title="Ünlucky", detail="\x00☂") if status != "COMPLETED" else None
        file = ResultFile("1/2", 3, "text/csv", "größe.csv", "ab" * 32) if status == "COMPLETED" else None
        ended = last._replace(
            status=TaskStatus(status),
            run=run,
            seq=last.seq + room,
            finished_at=now,
            expires_at=now if file else None,
            result=file,
            error=error,
            cancel_requested=False,
            next_attempt_at=None,
        )
        return self._rows.setdefault(run, ended)


def sealed(envelope: Envelope) -> bytes:
    """Seal an order: bytes that are no text."""
    return b"\xff\x00--" + envelope.message_id.encode() + b"\x80"
