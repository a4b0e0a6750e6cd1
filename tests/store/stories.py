"""StoryMachine: what mostly happens, several steps at a time. Without it few tasks would live for long."""

from typing import Any, Final

from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import get_state_machine_test, precondition, rule

from app.domain.lifecycle import TERMINAL
from tests.store.cast import MAX_ATTEMPTS, sealed
from tests.store.machine import PERCENT, WORDS, ScriptMachine
from tests.store.model.shard import ALIVE
from tests.store.stage import TASK_ID, Stage

BEGINNINGS: Final = [
    *("queued", "claimed", "claimed", "claimed early", "cancelled early"),
    *("claimed by another message", "run again", "ended again"),
]


def runs(machine: ScriptMachine) -> bool:
    """Return whether a worker has the task."""
    return machine.model.status == "PROCESSING" and machine.cast.has_workers


class StoryMachine(ScriptMachine):
    """One task, and what mostly happens to it."""

    @precondition(lambda self: self.model.status not in ALIVE)
    @rule(how=st.sampled_from(BEGINNINGS))
    def another_task_is_promised(self, how: str) -> None:
        self.redis_is_changed("FLUSHALL", 1)
        self.begin(old=True)
        first = self.cast.order(self.model.now, keyed=True, delay=0)
        second = self.cast.order(self.model.now, keyed=True, delay=20_000 if how.endswith("early") else 0)
        self.script(self.store.create(second, sealed(second)))
        if how.startswith("claimed "):
            return self.claim_with(second if how == "claimed early" else first)
        self.script(self.store.queued(second, self.cast.epoch("this")))
        if how == "cancelled early":
            self.script(self.store.cancel(TASK_ID))
        if how != "queued":
            self.claim_with(second)
        if how in ("run again", "ended again"):
            self.somebody_ends_it("settle", "FAILED", 0)
            self.rerun(0, False, "FAILED")
        if how == "ended again":
            self.queued("guard", "this")
            self.somebody_ends_it("settle", "FAILED", 0)
            self.rerun(-1, False, "FAILED")
        return None

    @precondition(lambda self: self.model.status not in ALIVE)
    @rule(fails=st.booleans(), then=st.sampled_from(["create", "queued", "claim"]), back=st.sampled_from([0, -500]))
    def a_request_comes_to_nothing(self, fails: bool, then: str, back: int) -> None:
        """Its publish fails, or Redis begins anew under it; and then another one comes, or its own message."""
        self.redis_is_changed("FLUSHALL", 1)
        self.begin(old=True)
        own, another = (self.cast.order(self.model.now, keyed=True, delay=0) for _ in range(2))
        self.script(self.store.create(own, sealed(own)))
        if fails:
            self.script(self.store.abort(own))
        else:
            self.an_epoch_may_begin("server 4", False)
        self.the_clock_steps(back)
        match then:
            case "create":
                self.script(self.store.create(another, sealed(another)))
            case "queued":
                self.script(self.store.queued(own if fails else another, self.cast.epoch("an older one")))
            case _:
                self.claim_with(another)

    @precondition(lambda self: self.model.status == "PENDING")
    @rule()
    def a_worker_takes_it(self) -> None:
        self.claim_with(self.cast.message("guard", self.model))

    @precondition(runs)
    @rule(young=st.booleans(), then=st.sampled_from(["claim", "claim", "redrive", "nothing"]))
    def its_lease_runs_out(self, young: bool, then: str) -> None:
        self.the_clock_steps(10_001)
        if young:
            self.an_epoch_may_begin("server 3", False)
        if then == "claim":
            self.claim_with(self.cast.message("guard", self.model))
        elif then == "redrive":
            self.redrive(False, True, "this")

    @precondition(runs)
    @rule(progress=PERCENT, message=WORDS, commits=st.booleans())
    def its_worker_goes_on(self, progress: int, message: str | None, commits: bool) -> None:
        self.beat("holder", progress, message)
        if commits:
            self.commit("holder", progress)

    @precondition(runs)
    @rule(charge=st.booleans(), wait=st.sampled_from([0, 700]), twice=st.booleans())
    def its_worker_gives_it_back(self, charge: bool, wait: int, twice: bool) -> None:
        self.release("holder", charge, wait)
        if twice:
            self.the_last_call_is_sent_again()
        self.promote("next_guard")

    @precondition(runs)
    @rule(lost=st.booleans())
    def its_attempts_are_used_up(self, lost: bool) -> None:
        for _ in range(MAX_ATTEMPTS):
            if lost and runs(self):
                self.its_lease_runs_out(False, "claim")
            elif runs(self):
                self.its_worker_gives_it_back(True, 0, False)
                self.claim_with(self.cast.message("guard", self.model))

    @precondition(runs)
    @rule(deleted=st.booleans())
    def redis_forgets_it_under_its_worker(self, deleted: bool) -> None:
        worker = self.cast.worker("holder", self.model)
        self.redis_is_changed("FLUSHALL", 1)
        if deleted:
            self.somebody_ends_it("forget", "", 0)
        self.restore_by(worker)

    @precondition(lambda self: self.model.status not in ALIVE)
    @rule(back=st.sampled_from([0, -500]))
    def a_message_comes_to_an_emptied_redis(self, back: int) -> None:
        self.redis_is_changed("FLUSHALL", 1)
        for _ in range(2):
            self.claim("newest", False, "this", None)
            self.the_clock_steps(back)

    @precondition(lambda self: self.model.status in TERMINAL)
    @rule(how=st.sampled_from(["forget", "forget again"]), then=st.sampled_from(["claim", "forget", "forget again"]))
    def its_owner_deletes_it(self, how: str, then: str) -> None:
        self.somebody_ends_it(how, "", 0)
        if then == "claim":
            self.claim_with(self.cast.message("newest", self.model))
        else:
            self.somebody_ends_it(then, "", 0)

    @precondition(lambda self: self.model.status in TERMINAL)
    @rule()
    def the_same_end_comes_of_the_next_run(self) -> None:
        self.somebody_ends_it("settle", self.model.status, 1)

    @precondition(lambda self: self.model.status in TERMINAL)
    @rule(hand=st.booleans())
    def an_operator_runs_it_again(self, hand: bool) -> None:
        self.redis_is_changed("by hand", 1)
        self.rerun(0, hand, "FAILED")


def play(stage: Stage, how: settings, *, number: int) -> None:
    """Let the machine run on this stage; `number` is the seed of what happens."""

    def machine() -> Any:
        return StoryMachine(stage)

    seed(number)(get_state_machine_test(machine, settings=how))()  # type: ignore[arg-type]  # a factory will do
