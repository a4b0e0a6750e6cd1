"""ScriptMachine: everything that may happen to one task, a step at a time; the scripts and the model must agree."""

import contextlib
from datetime import timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.domain.envelope import Envelope
from app.domain.errors import LeaseLost
from app.domain.lifecycle import TERMINAL
from app.domain.moments import moment
from app.store.keys import PUBLIC_FIELDS, owner_id, shard_of
from app.store.replies import Ask, AskRow, Claimed, Park, Question, Redrive, Released
from tests.store.cast import OWNER, Cast, Worker, sealed
from tests.store.model.shard import normal
from tests.store.promises import Promises, is_set_by_hand
from tests.store.scripts import Call
from tests.store.stage import BEGINNING, TASK_ID, Saved, Stage

SHARD: Final = shard_of(TASK_ID)
# The right one mostly, and whatever else may come late.
MESSAGES: Final = st.sampled_from(["guard"] * 4 + ["next_guard"] * 3 + ["newest"] * 2 + ["older", "oldest", "unknown"])
WORKERS: Final = st.sampled_from(["holder"] * 5 + ["older", "another run", "another token"])
EPOCHS: Final = st.sampled_from(["this"] * 4 + ["an older one", "none"])
RUNS: Final = st.sampled_from([0] * 4 + [-1, 1])
QUESTIONS: Final[st.SearchStrategy[Question | None]] = st.sampled_from([None, None, None, None, "EXPIRED", "CREATED"])
ENDS: Final = st.sampled_from(["FAILED", "COMPLETED", "CANCELLED"])
PERCENT: Final = st.sampled_from([0, 10, 40, 70, 100])
WORDS: Final = st.sampled_from([None, "½ done", "fertig\n\u2028", "終わり"])
ANSWER_OF_THE_SECOND: Final = {b"RENEWED": b"SAME"}
"""Where the second of two equal calls may answer otherwise, as the head of the script says."""


class EveryRule:
    """Switches off no rule."""

    def is_enabled(self, name: str) -> bool:
        """Return True."""
        return True


EVERY_RULE: Final[Any] = EveryRule()


class ScriptMachine(RuleBasedStateMachine):
    """One task."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        # Hypothesis switches off half of the rules in each example; most of what is decided here needs them together.
        self._rules_strategy.enabled_rules_strategy = st.just(EVERY_RULE)
        self.stage = stage
        self.store = stage.store
        stage.begin()
        self.model = stage.model
        self.promises = Promises()
        self.cast = Cast()
        self.calls: list[Call] = []
        self.repeatable = False
        self.saved: list[Saved] = []

    def script(self, step: Any) -> Any:
        """Run a script on both sides, look, and check what is promised."""
        try:
            return self.stage.wait_for(step)
        finally:
            self.calls.extend(self.store.heard)
            self._look(self.calls[-1].name if self.calls else "", repeatable=True)

    def _look(self, step: str, *, repeatable: bool = False) -> None:
        self.repeatable = repeatable
        self.model = self.stage.model
        seen = self.stage.look()
        self.promises.check(step, seen, self.model.now)
        self.cast.saw(seen)

    # --- submission

    @initialize(old=st.sampled_from([True, True, False]))
    def begin(self, old: bool) -> None:
        self.script(self.store.renew_epoch(SHARD, nonce="the first epoch", server="server 1", old=old))

    @rule(keyed=st.booleans(), delay=st.sampled_from([0, 0, 0, 500, 20_000]))
    def create(self, keyed: bool, delay: int) -> None:
        envelope = self.cast.order(self.model.now, keyed=keyed, delay=delay)
        self.script(self.store.create(envelope, sealed(envelope)))

    @rule(more=RUNS, hand=st.booleans(), status=st.sampled_from(["FAILED", "CANCELLED"]))
    def rerun(self, more: int, hand: bool, status: str) -> None:
        ended = self.cast.row(max(1, self.model.run + more), status, self.model, room=16)
        envelope = self.cast.order_again(ended)
        self.script(self.store.rerun(envelope, sealed(envelope), b"\xfe\x00", ended, by_hand=hand))

    @rule(which=MESSAGES, epoch=EPOCHS)
    def queued(self, which: str, epoch: str) -> None:
        self.script(self.store.queued(self.cast.message(which, self.model), self.cast.epoch(epoch)))

    @rule(which=MESSAGES)
    def abort(self, which: str) -> None:
        self.script(self.store.abort(self.cast.message(which, self.model)))

    # --- execution

    @rule(which=MESSAGES, asks=st.sampled_from([True, True, True, False]), epoch=EPOCHS, about=QUESTIONS)
    def claim(self, which: str, asks: bool, epoch: str, about: Question | None) -> None:
        self.claim_with(self.cast.message(which, self.model), asks=asks, epoch=epoch, about=about)

    def claim_with(
        self, envelope: Envelope, *, asks: bool = True, epoch: str = "this", about: Question | None = None
    ) -> None:
        """Claim; and a second time, with an answer of the archive, where it says ASK."""
        copy, worker, asked = self.cast.name("copy"), self.cast.name("worker"), None
        for _ in range(1 + asks):
            claim = self.script(
                self.store.claim(envelope, sealed(envelope), checkpoint=None, worker=worker, copy_id=copy, asked=asked)
            )
            if isinstance(claim, Ask):
                asked = Ask(about or claim.what, self.cast.epoch(epoch))
        if isinstance(claim, Park):
            self.cast.sent(envelope.succeeded_by(copy))
        if isinstance(claim, Claimed):
            self.cast.hired(worker, envelope, claim)

    @rule(which=MESSAGES, old=MESSAGES)
    def promote(self, which: str, old: str = "guard") -> None:
        copy, replaced = self.cast.message(which, self.model), self.cast.message(old, self.model)
        self.script(self.store.promote(TASK_ID, copy.run, copy.message_id, replaces=replaced.message_id))

    @precondition(lambda self: self.cast.has_workers)
    @rule(which=WORKERS, progress=PERCENT, message=WORDS)
    def beat(self, which: str, progress: int, message: str | None) -> None:
        worker = self.cast.worker(which, self.model)
        run, furthest = worker.envelope.run, max(progress, worker.progress)
        beat = self.script(self.store.beat(TASK_ID, run, worker.token, progress=progress, message=message))
        if beat.held in ("HELD", "CANCEL"):
            self.cast.learnt(worker, progress=furthest)

    @precondition(lambda self: self.cast.has_workers)
    @rule(which=WORKERS, progress=PERCENT)
    def commit(self, which: str, progress: int) -> None:
        worker = self.cast.worker(which, self.model)
        run, furthest = worker.envelope.run, max(progress, worker.progress)
        checkpoint = b"\xfe\x00 at " + str(progress).encode()
        if self.script(self.store.commit(TASK_ID, run, worker.token, checkpoint, progress=progress)) == "HELD":
            envelope = worker.envelope.model_copy(update={"checkpoint_progress": progress})
            self.cast.learnt(worker, envelope=envelope, progress=furthest, checkpoint=checkpoint)

    @precondition(lambda self: self.cast.has_workers)
    @rule(which=WORKERS)
    def restore(self, which: str) -> None:
        self.restore_by(self.cast.worker(which, self.model))

    def restore_by(self, worker: Worker) -> None:
        """Bring the task back from this worker's memory."""
        self.script(
            self.store.restore(
                worker.envelope,
                sealed(worker.envelope),
                worker.checkpoint,
                worker.token,
                progress=worker.progress,
                worker=worker.name,
                started_at=moment(BEGINNING) if worker.progress else None,
            )
        )

    @precondition(lambda self: self.cast.has_workers)
    @rule(which=WORKERS)
    def hand_over(self, which: str) -> None:
        worker, copy = self.cast.worker(which, self.model), self.cast.name("copy")
        with contextlib.suppress(LeaseLost):
            self.script(self.store.hand_over(TASK_ID, worker.envelope.run, worker.token, copy))
            self.cast.sent(worker.envelope.succeeded_by(copy))

    @precondition(lambda self: self.cast.has_workers)
    @rule(which=WORKERS, charge=st.booleans(), wait=st.sampled_from([0, 0, 700]))
    def release(self, which: str, charge: bool, wait: int) -> None:
        worker, copy = self.cast.worker(which, self.model), self.cast.name("copy")
        run, rest = worker.envelope.run, timedelta(milliseconds=wait)
        with contextlib.suppress(LeaseLost):
            released = self.script(
                self.store.release(TASK_ID, run, worker.token, copy_id=copy, charge=charge, wait=rest)
            )
            if isinstance(released, Released):
                figures = {"attempt": released.attempt, "charged": released.charged}
                self.cast.sent(worker.envelope.succeeded_by(copy, **figures))

    @precondition(lambda self: self.cast.has_workers)
    @rule(which=WORKERS)
    def requeue(self, which: str) -> None:
        worker = self.cast.worker(which, self.model)
        self.script(self.store.requeue(TASK_ID, worker.envelope.run, worker.token))

    # --- ends and housekeeping

    @rule(
        how=st.sampled_from(
            ["settle"] * 4 + ["settle its own"] * 2 + ["cancel"] * 4 + ["forget", "forget", "forget again"]
        ),
        status=ENDS,
        more=RUNS,
    )
    def somebody_ends_it(self, how: str, status: str, more: int) -> None:
        match how:
            case "settle" | "settle its own":
                run, own = max(1, self.model.run + more), ""
                # Its own: by the submission that made the hash, with the newest row. A rerun never does it.
                if how == "settle its own" and not self.model.text("ended_as"):
                    run, own = max(run, self.cast.newest_run), self.model.text("guard")
                row = self.cast.row(run, status, self.model, room=16 * (more + 1))
                self.script(self.store.settle(row, own=own))
            case "cancel":
                self.script(self.store.cancel(TASK_ID))
            case _:
                self.script(self.store.forget(TASK_ID, owner_id(OWNER), again=how == "forget again"))

    @precondition(lambda self: not is_set_by_hand(self.stage.seen))
    @rule(everything=st.booleans(), asks=st.booleans(), epoch=EPOCHS)
    def redrive(self, everything: bool, asks: bool, epoch: str) -> None:
        copy, asked = self.cast.name("copy"), None
        for _ in range(1 + asks):
            answer = self.script(self.store.redrive(TASK_ID, copy_id=copy, everything=everything, asked=asked))
            if isinstance(answer, AskRow):
                asked = AskRow(answer.run, self.cast.epoch(epoch))
        if isinstance(answer, Redrive):
            figures = {"run": answer.run, "attempt": answer.attempt, "charged": answer.charged}
            self.cast.sent(self.cast.message("guard", self.model).succeeded_by(copy, **figures))

    # --- what no script does

    @precondition(lambda self: self.repeatable)
    @rule()
    def the_last_call_is_sent_again(self) -> None:
        call, before = self.calls[-1], self.stage.seen
        first, second = normal(call.reply), self.stage.again(call)
        self._look(call.name, repeatable=True)
        if second[:1] == [b"CLAIMED"]:
            first, second = first[:4] + first[5:], second[:4] + second[5:]  # it may advise to ask the archive again
        if first[:1] == [b"QUEUED"]:
            assert second[0] == b"ALIVE"
            first, second = first[1], second[1][PUBLIC_FIELDS.index("seq")]  # the second reads what the first has made
        assert second in (first, ANSWER_OF_THE_SECOND.get(first if isinstance(first, bytes) else b"")), "another answer"
        after = self.stage.seen
        same = (after.hash, after.live, after.epoch, []) == (before.hash, before.live, before.epoch, after.published)
        assert same, f"{call.name}, sent twice, changed something twice"

    @precondition(lambda self: self.calls)
    @rule(back=st.integers(1, 12))
    def an_older_call_comes_late(self, back: int) -> None:
        call = self.calls[-min(back, len(self.calls))]
        if call.name == "redrive" and is_set_by_hand(self.stage.seen):
            return  # it is not in `live`
        self.stage.again(call)
        self._look(call.name)

    @rule(span=st.sampled_from([1, 3, 500, 9_999, 10_000, 10_001, 60_000] * 2 + [-1, -500, -9_000, -3_600_000]))
    def the_clock_steps(self, span: int) -> None:
        self.stage.set_clock(self.model.now + span)
        self.repeatable = False

    @rule(server=st.sampled_from(["server 1", "server 2"]), old=st.booleans())
    def an_epoch_may_begin(self, server: str, old: bool) -> None:
        self.script(self.store.renew_epoch(SHARD, nonce=self.cast.name("epoch"), server=server, old=old))

    @rule()
    def the_disk_keeps_it(self) -> None:
        self.saved.append(self.stage.save())

    @rule(what=st.sampled_from(["FLUSHALL", "older data", "expiry", "by hand"]), back=st.integers(1, 3))
    def redis_is_changed(self, what: str, back: int) -> None:
        if what == "FLUSHALL":
            self.stage.lose_all()
        elif what == "older data" and self.saved:
            self.stage.roll_back(self.saved[-min(back, len(self.saved))])
        elif what == "expiry" and self.model.ttl is not None:
            self.stage.expire()
        elif what == "by hand" and self.model.status in (*TERMINAL, "PROCESSING"):
            self.stage.set_by_hand("PENDING")
        else:
            return
        self._look(what)
