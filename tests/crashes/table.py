"""The crash table: for each point at which a process may die, what its caller sees, who recovers, and how fast.

It is the table of docs/protocol.md, and `python -m tests.crashes.table` prints it in Markdown.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.crashes import stories
from tests.crashes.stage import Stage

LEASE: Final = 3.0
TAKE_OVER: Final = LEASE + 5.0
"""Seconds: what a task in a dead worker's hands waits at most, once a healthy worker is there."""
WORK: Final = 2.0
"""Seconds: a step that takes longer than HAND_OVER."""
AT_ONCE: Final = 5.0
"""Seconds: no lease has to run out; the message is there, or comes with the next round of a delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """One row."""

    point: str
    who: Literal["API", "worker"]
    sees: str
    recovers: str
    how_fast: str
    provoke: Callable[[Stage], Awaitable[None]]
    """Lets the process die."""
    before: Callable[[Stage], Awaitable[None]] = stories.nothing
    """Goes on while no worker is there: what the caller sees at once, what a repetition brings."""
    then: Callable[[Stage], Awaitable[None]] = stories.nothing
    """Goes on once a healthy worker is there."""
    after: Callable[[Stage], Awaitable[None]] = stories.nothing
    """What is to be true at the very end, beyond what every story is held to."""
    environment: Mapping[str, str] = field(default_factory=dict)
    status: Literal["COMPLETED", "FAILED", "CANCELLED", "deleted"] = "COMPLETED"
    attempt: int = 1
    effects: Mapping[int | str, int] = field(default_factory=lambda: {"begun": 1, 0: 1})
    """How often each has happened."""
    runs: tuple[str, ...] = ()
    """The rows; one, of the final status, if empty."""
    within: float = AT_ONCE

    @property
    def name(self) -> str:
        """Of the story, and of its queue."""
        return f"{self.point}_in_{self.who}".lower()

    @property
    def rows(self) -> list[tuple[int, str]]:
        """What stands in SQL in the end."""
        if self.status == "deleted":
            return []
        return list(enumerate(self.runs or (self.status,), start=1))


HAND_OVER: Final = {"LONGHAUL_CONSUMER_HANDOVER_SECONDS": "1"}
RESET: Final = "connection reset (nginx: 502)"
STALLS: Final = "PROCESSING stands still, then `attempt` + 1"
NEXT_CLAIM: Final = "the broker delivers again; the claim waits for the lease, asks SQL, takes over"

TABLE: Final = (
    # --- submission
    Crash(
        point="after_admission",
        who="API",
        sees=f"{RESET}, then 404; nothing runs unless the request is repeated",
        recovers="the repetition counts once against the quota; without one the leader takes the id off",
        how_fast="with the repetition; 90 s and the leader's round",
        provoke=stories.submits,
        before=stories.counts_once,
    ),
    Crash(
        point="after_create",
        who="API",
        sees=f"{RESET}, then 404; nothing runs unless the request is repeated",
        recovers="the repeated request publishes a message of its own; without one the trace goes by itself",
        how_fast="with the repetition; the trace after 60 s",
        provoke=stories.submits,
        before=stories.is_nothing_until_repeated,
    ),
    Crash(
        point="after_confirm",
        who="API",
        sees=f"{RESET}; the task runs once; a repetition with the same key gets it, 202",
        recovers="the confirmed message: its claim makes the task visible",
        how_fast="at once",
        provoke=stories.submits,
        after=stories.replays,
    ),
    Crash(
        point="after_queued",
        who="API",
        sees=f"{RESET}; the task is PENDING and runs once; a repetition gets it, 202",
        recovers="nothing is to be done",
        how_fast="at once",
        provoke=stories.submits,
        before=stories.is_pending,
        after=stories.replays,
    ),
    Crash(
        point="after_doubt",
        who="API",
        sees=f"{RESET} (the confirm was overdue); it may run, and runs once if repeated with the same key",
        recovers="the repetition publishes a message of its own; the late one loses",
        how_fast="with the repetition",
        provoke=stories.submits_unconfirmed,
        before=stories.repeats,
        environment={"LONGHAUL_PUBLISH_TIMEOUT_SECONDS": "2"},
    ),
    Crash(
        point="after_abort",
        who="API",
        sees=f"{RESET} (the confirm was overdue); does not run; a repetition is a new submission of the same id",
        recovers="the late message finds the tombstone, and is dropped; had Redis lost that, it would wait until "
        "housekeeping lifts the doubt in SQL, and run",
        how_fast="at once; the doubt after two minutes at most",
        provoke=stories.submits_unconfirmed,
        before=stories.is_nothing_but("doubted"),
        then=stories.never_ran_until_repeated,
        environment={"LONGHAUL_PUBLISH_TIMEOUT_SECONDS": "2"},
    ),
    Crash(
        point="after_refusal",
        who="API",
        sees=f"{RESET} (the confirm was overdue); never runs; a repetition is a new submission of the same id",
        recovers="the late message finds the tombstone, or the refusal in SQL, and is dropped",
        how_fast="at once",
        provoke=stories.submits_unconfirmed,
        before=stories.is_nothing_but("refused"),
        then=stories.never_ran_until_repeated,
        environment={"LONGHAUL_PUBLISH_TIMEOUT_SECONDS": "2"},
    ),
    # --- control
    Crash(
        point="after_cancel_flag",
        who="API",
        sees=f"{RESET}; PENDING with `cancel_requested`; never runs. A repetition ends it at once",
        recovers="whoever claims its message ends it as CANCELLED instead of running it",
        how_fast="when its turn comes",
        provoke=stories.cancels,
        before=stories.is_asked_to_stop,
        status="CANCELLED",
        effects={},
    ),
    Crash(
        point="after_row",
        who="API",
        sees=f"{RESET}; CANCELLED from its row on, at the latest when its turn comes; never runs",
        recovers="the claim of its message finds the row and shows it; so does a repetition",
        how_fast="when its turn comes",
        provoke=stories.cancels,
        before=stories.is_asked_to_stop,
        status="CANCELLED",
        attempt=0,
        effects={},
    ),
    Crash(
        point="after_rerun",
        who="API",
        sees=f"{RESET}; the old end is shown; another retry gets 409 for up to 60 s, then 202",
        recovers="the begun run goes by itself",
        how_fast="60 s",
        provoke=stories.retries,
        before=stories.can_be_retried_later,
        runs=("CANCELLED", "COMPLETED"),
    ),
    Crash(
        point="after_forget_mark",
        who="API",
        sees=f"{RESET}; still there, but a retry gets 410 for up to 60 s; DELETE again: 204",
        recovers="the repetition; without one the mark goes by itself, and nothing was deleted; messages wait for it",
        how_fast="with the repetition; the mark after 60 s",
        provoke=stories.deletes,
        before=stories.is_half_deleted,
        status="deleted",
        effects={},
    ),
    Crash(
        point="after_forget_row",
        who="API",
        sees=f"{RESET}; 404 from now on",
        recovers="nothing is to be done; housekeeping removes a result file",
        how_fast="at once; the file within a minute",
        provoke=stories.deletes,
        before=stories.is_not_found,
        status="deleted",
        effects={},
    ),
    # --- execution
    Crash(
        point="after_claim",
        who="worker",
        sees=STALLS,
        recovers=NEXT_CLAIM,
        how_fast="lease + 5 s",
        provoke=stories.runs(),
        attempt=2,
        within=TAKE_OVER,
    ),
    Crash(
        point="after_rebuild",
        who="worker",
        sees=f"404 since Redis lost it, then {STALLS}",
        recovers=NEXT_CLAIM,
        how_fast="lease + 5 s",
        provoke=stories.runs_after_redis_lost_it,
        attempt=2,
        within=TAKE_OVER,
    ),
    Crash(
        point="after_commit",
        who="worker",
        sees=f"{STALLS}; goes on from the checkpoint, and is not charged",
        recovers=NEXT_CLAIM,
        how_fast="lease + 5 s",
        provoke=stories.runs(steps=2, max_attempts=1),
        attempt=2,
        effects={"begun": 2, 0: 1, 1: 1},
        within=TAKE_OVER,
    ),
    Crash(
        point="after_effect",
        who="worker",
        sees=f"{STALLS}; what was done since the last checkpoint is done again",
        recovers=NEXT_CLAIM,
        how_fast="lease + 5 s",
        provoke=stories.runs(commits=False),
        attempt=2,
        effects={"begun": 2, 0: 2},
        within=TAKE_OVER,
    ),
    Crash(
        point="after_result",
        who="worker",
        sees=f"{STALLS}; the second attempt's file is the one that is served",
        recovers=NEXT_CLAIM,
        how_fast="lease + 5 s",
        provoke=stories.runs(commits=False, file=True),
        after=stories.serves_the_file_of_attempt(2),
        attempt=2,
        effects={"begun": 2, 0: 2},
        within=TAKE_OVER,
    ),
    Crash(
        point="after_row",
        who="worker",
        sees="COMPLETED late",
        recovers="the broker delivers again; after the lease the claim finds the row and shows it: nothing is repeated",
        how_fast="lease + 5 s",
        provoke=stories.runs(commits=False, file=True),
        after=stories.serves_the_file_of_attempt(1),
        within=TAKE_OVER,
    ),
    Crash(
        point="after_settle",
        who="worker",
        sees="nothing",
        recovers="the broker delivers again; the message is dropped",
        how_fast="at once",
        provoke=stories.runs(),
        before=stories.is_completed,
    ),
    # --- parking, hand-over, failure
    Crash(
        point="after_park",
        who="worker",
        sees="nothing",
        recovers="the broker delivers again; of the message and its copy one is dropped",
        how_fast="at its time",
        provoke=stories.runs(delay_seconds=2.5),
    ),
    Crash(
        point="before_hand_over",
        who="worker",
        sees=STALLS,
        recovers=NEXT_CLAIM,
        how_fast="lease + 5 s",
        provoke=stories.runs(commits=False, seconds=WORK),
        environment=HAND_OVER,
        attempt=2,
        effects={"begun": 2, 0: 2},
        within=TAKE_OVER + WORK,
    ),
    Crash(
        point="after_copy",
        who="worker",
        sees=STALLS,
        recovers="message and copy both come; one takes over after the lease, the other is dropped",
        how_fast="lease + 5 s",
        provoke=stories.runs(commits=False, seconds=WORK),
        environment=HAND_OVER,
        attempt=2,
        effects={"begun": 2, 0: 2},
        within=TAKE_OVER + WORK,
    ),
    Crash(
        point="after_promote",
        who="worker",
        sees=STALLS,
        recovers="the copy takes over after the lease; the message is dropped",
        how_fast="lease + 5 s",
        provoke=stories.runs(commits=False, seconds=WORK),
        environment=HAND_OVER,
        attempt=2,
        effects={"begun": 2, 0: 2},
        within=TAKE_OVER + WORK,
    ),
    Crash(
        point="after_release",
        who="worker",
        sees="PENDING until `next_attempt_at`, as after any failure",
        recovers="the broker delivers the old message again, which is still the guard",
        how_fast="at its time",
        provoke=stories.runs(failures=1),
        attempt=2,
        effects={"begun": 2, 0: 1},
    ),
    Crash(
        point="after_bury",
        who="worker",
        sees=f"{STALLS}; FAILED by the next attempt",
        recovers=f"{NEXT_CLAIM}; a second dead letter, which a redrive ignores",
        how_fast="lease + 5 s",
        provoke=stories.runs(failures=9, how="fatal"),
        after=stories.has_two_dead_letters,
        status="FAILED",
        attempt=2,
        effects={"begun": 2},
        within=TAKE_OVER,
    ),
    # --- housekeeping
    Crash(
        point="after_redrive",
        who="worker",
        sees="nothing",
        recovers="the new message is claimed as the expected copy; should it be lost, too, the next leader's redriver",
        how_fast="at once",
        provoke=stories.loses_its_message,
        environment={"TEST_SERVES": "idle"},
    ),
)


def markdown() -> str:
    """Return the table as docs/protocol.md has it."""
    lines = ["| the process dies | who | the user sees | who recovers | how fast |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| `{row.point}` | {row.who} | {row.sees} | {row.recovers} | {row.how_fast} |" for row in TABLE]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
