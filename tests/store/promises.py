"""What must hold after every step, whatever the model says: told from two looks at Redis and what came between."""

from typing import Final

from app.domain.lifecycle import TABLE, TERMINAL, TaskStatus
from app.domain.task import StatusDocument
from app.store.keys import PUBLIC_FIELDS
from app.store.records import visible_task
from tests.store.stage import TASK_ID, Seen

ALIVE: Final = frozenset({"PENDING", "PROCESSING"})
PASSING: Final = frozenset({"created", "aborted", "forgotten", *TERMINAL})
LAWFUL: Final = frozenset((was, becomes) for (was, _), becomes in TABLE.items())
OF_AN_END: Final = frozenset({"finished_at", "expires_at", "result", "error", "ended_as", "aborted"})
LOSSES: Final = frozenset({"FLUSHALL", "older data", "expiry"})
UNSEEN: Final = frozenset({"by hand", "older data"})
"""What changes a task under the scripts' feet."""
SEQ: Final = PUBLIC_FIELDS.index("seq")


class Promises:
    """One observer of one task."""

    def __init__(self) -> None:
        self._before = Seen()
        self._highest = 0
        self._lost = False
        self._made = 0
        self._told: StatusDocument | None = None
        self._tokens: dict[tuple[int, int], str] = {}

    def check(self, step: str, seen: Seen, now: int) -> None:
        """Look once more, after a step: a script's name, or what else happened."""
        before, self._before = self._before, seen
        self._lost = self._lost or step in LOSSES
        if not before.hash and seen.hash:
            self._made = now
        if step == "older data":
            self._highest = 0  # an older task is told until the next change: Redis on one machine cannot know better
        _is_well_formed(seen)
        self._seq_rises(step, before, seen)
        _is_guarded(step, before, seen)
        if step not in LOSSES and step != "by hand" and before.hash and seen.hash:
            _is_lawful(step, before, seen)
            _never_falls(step, before, seen)
            _is_published(step, before, seen)
        self._is_the_tokens_holder(step, seen, now)

    def _seq_rises(self, step: str, before: Seen, seen: Seen) -> None:
        shown = [int(document[SEQ] or 0) for document in seen.published]
        document, old = shown_document(seen), shown_document(before)
        if document is not None:
            shown.append(document.seq)
        same_end = document is not None and document.status in TERMINAL and document == self._told  # from its row
        rows_own = step == "settle" and old is None  # nobody has seen the hash that it ends: the row's own seq is shown
        for seq in shown:
            if seq < self._highest or (self._lost and seq == self._highest and not same_end):
                assert self._lost, f"seq fell from {self._highest} to {seq}"
                assert self._made <= self._highest or rows_own, "time had passed, and seq fell"
            self._highest, self._lost = seq, False
        self._told = document or self._told
        assert shown[: len(seen.published)] == sorted(set(shown[: len(seen.published)])), "published seqs rise"
        another_end = step == "rerun" and before.number("run") != seen.number("run") - 1  # Redis held an older one
        if document and old and document.seq == old.seq and not another_end and step not in UNSEEN:
            assert document == old or is_set_by_hand(before), "two documents have one seq"

    def _is_the_tokens_holder(self, step: str, seen: Seen, now: int) -> None:
        """Each token is given once; whoever has the newest one is the worker that the hash names."""
        if seen.status != "PROCESSING":
            return
        token, worker = (seen.number("run"), seen.number("token")), seen.hash["worker"].decode()
        holder = self._tokens.setdefault(token, worker)
        if holder != worker:
            assert step in ("claim", "restore", "older data")
            assert step != "claim" or now <= token[1], "a token was given twice, though time has passed since"
            self._tokens[token] = worker


def shown_document(seen: Seen) -> StatusDocument | None:
    """Return what a caller is shown."""
    task = visible_task(TASK_ID, [seen.hash.get(name) for name in PUBLIC_FIELDS]) if seen.hash else None
    return StatusDocument.of(task, public_url="") if task else None


def is_set_by_hand(seen: Seen) -> bool:
    """Return whether it reads PENDING, and has ended: an operator's hand."""
    return seen.status == "PENDING" and "finished_at" in seen.hash


def _is_well_formed(seen: Seen) -> None:
    if is_set_by_hand(seen):
        return
    assert (seen.ttl is not None) == (seen.status in PASSING), "what has ended has a TTL, what lives has none"
    assert (seen.live is not None) == (seen.status in ALIVE), "`live` lists what lives, and nothing else"
    if seen.status in ALIVE:
        assert not OF_AN_END & seen.hash.keys(), "nothing of an end is left on what lives"
        assert {"envelope", "charged", "attempt", "max_attempts"} <= seen.hash.keys()
    if seen.status == "PROCESSING":
        assert {"lease_until", "token", "worker"} <= seen.hash.keys()
        assert seen.number("progress") >= seen.number("checkpoint_progress")
    if seen.status in TERMINAL:
        assert not {"envelope", "checkpoint", "guard", "lease_until", "cancel"} & seen.hash.keys()


def _is_guarded(step: str, before: Seen, seen: Seen) -> None:
    """There is always a guard; only a worker that has restored its task leaves it to the next claim to say which."""
    if seen.status in ALIVE and not seen.hash.get("guard") and not is_set_by_hand(seen) and step not in UNSEEN:
        unnamed = before.status in ALIVE and before.hash.get("guard") == b""
        assert step == "restore" or unnamed, "there is always a guard"


def _is_lawful(step: str, before: Seen, seen: Seen) -> None:
    if is_set_by_hand(before):
        return
    if before.status == "forgotten":
        assert seen.status == "forgotten", "what was deleted came back"
    if before.number("run") != seen.number("run") or before.status == seen.status:
        return
    if before.status in TERMINAL:
        assert seen.status == "forgotten", "an end is final"
    elif before.status in ALIVE and seen.status not in ("forgotten", *TERMINAL):
        assert (TaskStatus(before.status), TaskStatus(seen.status)) in LAWFUL
    if seen.status in TERMINAL:
        assert step == "settle", "only a row ends a task"


def _never_falls(step: str, before: Seen, seen: Seen) -> None:
    if "token" in seen.hash and step != "restore":
        assert seen.number("token") >= before.number("token"), "the token fell"
    same_run = before.number("run") == seen.number("run")
    if same_run and before.status in ALIVE and seen.status in ALIVE:
        assert seen.number("attempt") >= before.number("attempt"), "the attempt fell"
        assert seen.number("charged") >= before.number("charged"), "charges fell"
    if same_run and before.status == seen.status == "PROCESSING" and before.number("token") == seen.number("token"):
        assert seen.number("progress") >= before.number("progress"), "progress fell within an attempt"


def _is_published(step: str, before: Seen, seen: Seen) -> None:
    document = [seen.hash.get(name) for name in PUBLIC_FIELDS]
    if seen.published:
        assert seen.published[-1] == document, "another document was published than is stored"
    elif shown_document(seen) is not None and step != "rerun":
        assert shown_document(seen) == shown_document(before), f"{step} changed the task, and did not publish it"
