"""For each rule, a scenario that finds it missing; or why none can, and why the rule stands all the same.

The scenarios are the cheapest known; in each the whole protocol is clean (test_protocol.py), so what is found there is
found because of the rule.
"""

from typing import Final, NamedTuple

from tests.protocol.scenarios import Scenario


class Control(NamedTuple):
    """Where a missing rule is found, and as what."""

    scenario: Scenario
    finds: str


def _in(faults: int, ops: str, kinds: str, finds: str) -> Control:
    return Control(Scenario(faults, ops, frozenset(kinds.split())), finds)


CLEAN: Final = (
    Scenario(1, "h"),
    Scenario(2),
    Scenario(1, "fp"),
    Scenario(1, "hw"),
    Scenario(1, "R"),
    Scenario(1, "3"),
    Scenario(2, "d"),
    Scenario(1, "wk"),
    Scenario(0, "rfpw"),
    Scenario(1, "q"),
    Scenario(0, "qe"),
    Scenario(1, "qf"),
    Scenario(0, "qhkd"),
)
"""What the tests search to the end, beside the scenarios below."""

LONG: Final = (
    Scenario(2, "h"),
    Scenario(3),
    Scenario(1, "hp"),
    Scenario(1, "he"),
    Scenario(2, "q"),
    Scenario(1, "qe"),
    Scenario(1, "qh"),
    Scenario(1, "qhe"),
    Scenario(1, "qfp"),
    Scenario(0, "qkrd"),
    Scenario(2, "k"),
    Scenario(0, "hkrd"),
    Scenario(0, "3krd"),
    Scenario(1, "krd"),
    Scenario(1, "2kd"),
    Scenario(1, "2r"),
    Scenario(2, "2"),
    Scenario(1, "2rd", frozenset({"redis"})),
    Scenario(1, "Rk", frozenset({"redis"})),
    Scenario(2, "rd", frozenset({"kill", "redis"})),
)
"""What `python -m tests.protocol --clean` searches to the end: minutes."""

CONTROLS: Final = {
    # The guard
    "only_the_guard_claims": _in(0, "2h", "", "COPIES_GROW"),
    "next_guard_claims": _in(0, "h", "", "NO_GUARD"),
    "copy_before_acknowledgement": _in(0, "h", "", "NO_GUARD"),
    "promote_may_answer_keep": _in(0, "fh", "", "NO_GUARD"),
    "lost_deliveries_are_discarded": _in(2, "hp", "channel confirm", "RAN_AFTER_503"),
    "a_blind_copy_keeps_its_id": _in(2, "", "confirm redis", "RAN_AFTER_503"),
    "a_parked_task_is_pending": _in(0, "w", "", "NO_GUARD"),
    "restore_names_no_guard": _in(1, "h", "redis", "NO_GUARD"),
    # Runs and tokens
    "runs_are_compared": _in(1, "rh", "pause", "OLDER_RUN_SHOWN"),
    "only_the_newest_token_changes": _in(1, "h", "pause", "LATE_WORKER_CHANGED_IT"),
    # Epochs
    "young_epochs_wait": _in(1, "h", "redis", "LIVE_WORKER_ROBBED"),
    "young_epochs_create_nothing": _in(1, "2", "redis", "LIVE_WORKER_ROBBED"),
    "retries_wait_in_young_epochs": _in(1, "R", "redis", "LIVE_WORKER_ROBBED"),
    "queued_names_its_epoch": _in(1, "2", "redis", "NO_GUARD"),
    "queued_knows_its_own": _in(2, "", "rabbit redis", "NO_GOOD_END"),
    # What SQL knows
    "asks_for_a_row": _in(1, "h", "redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "asks_for_refused": _in(1, "", "confirm", "RAN_AFTER_503"),
    "asks_for_forgotten": _in(1, "rd", "kill", "DELETED_CAME_BACK"),
    "takeover_asks": _in(2, "k", "kill redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "created_asks": _in(2, "2", "confirm redis", "RAN_AFTER_503"),
    "rebuilt_asks_again": _in(1, "k", "redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "taken_asks_again": _in(1, "2k", "redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "repeatable_claims_ask_again": _in(1, "2k", "redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "rebuilt_under_a_lease": _in(2, "k", "kill redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    # Submission
    "doubted_before_abort": _in(2, "", "confirm redis", "RAN_AFTER_503"),
    "refusals_begin_as_doubts": _in(2, "2", "confirm redis", "NO_GOOD_END"),
    "abort_takes_only_its_own": _in(1, "3", "confirm", "NO_GUARD"),
    "nothing_to_abort_is_unknown": _in(2, "", "confirm redis", "ROW_AFTER_503"),
    "aborted_is_no_hash": _in(2, "2", "confirm rabbit", "NO_GOOD_END"),
    "aborted_bars_only_its_own": _in(1, "3", "confirm", "NO_GUARD"),
    "created_is_deleted": _in(1, "", "kill", "NO_GUARD"),
    "replays_publish": _in(1, "2", "kill", "NO_GOOD_END"),
    "replays_ask": _in(0, "3d", "", "DELETED_CAME_BACK"),
    "queued_starts_over": _in(3, "2", "confirm rabbit redis", "NO_GOOD_END"),
    "twice_is_unknown": _in(2, "2", "confirm redis", "RAN_AFTER_503"),
    # Execution
    "restore_asks": _in(1, "hkd", "redis", "DELETED_CAME_BACK"),
    "only_fresh_beats_restore": _in(2, "h", "pause redis", "LIVE_WORKER_ROBBED"),
    "restored_asks_again": _in(1, "k", "redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "claims_wait_until_due": _in(0, "w", "", "RAN_TOO_EARLY"),
    # Attempts
    "failures_are_charged": _in(0, "f", "", "TOO_MANY_ATTEMPTS"),
    "lost_workers_are_charged": _in(0, "f", "", "TOO_MANY_ATTEMPTS"),
    "shutdowns_are_free": _in(0, "fp", "", "GAVE_UP_EARLY"),
    "attempts_are_capped": _in(0, "f", "", "TOO_MANY_ATTEMPTS"),
    "dead_before_acknowledgement": _in(1, "f", "kill", "NO_GOOD_END"),
    # The end
    "row_before_acknowledgement": _in(0, "", "", "NO_GUARD"),
    "row_before_settle": _in(0, "", "", "SHOWN_WITHOUT_ROW"),
    "first_row_wins": _in(0, "k", "", "ROW_CHANGED"),
    "row_carries_the_webhook": _in(1, "", "kill", "NO_GOOD_END"),
    "settle_never_makes_a_hash": _in(1, "d", "redis", "DELETED_CAME_BACK"),
    "settle_compares_runs": _in(1, "r", "kill", "OLDER_RUN_SHOWN"),
    "settle_leaves_the_hidden": _in(1, "2d", "redis", "DELETED_CAME_BACK"),
    "tellers_settle_first": _in(1, "k", "kill", "RAN_AFTER_ITS_END_WAS_TOLD"),
    "settle_lifts_a_lower_run": _in(2, "2r", "pause redis", "OLDER_RUN_SHOWN"),
    "barred_rows_are_not_settled": _in(1, "krd", "redis", "SHOWN_WITHOUT_ROW"),
    # DELETE
    "delete_marks_first": _in(0, "rd", "", "PROMISE_DELETED"),
    "first_mark_is_provisional": _in(2, "rd", "kill redis", "NO_GOOD_END"),
    "delete_marks_again": _in(1, "rd", "redis", "DELETED_CAME_BACK"),
    "forgotten_bars_rows": _in(1, "rd", "redis", "DELETED_CAME_BACK"),
    # Housekeeping
    "losses_are_redriven": _in(1, "", "loss", "NO_GOOD_END"),
    "birth_redrives": _in(2, "", "rabbit redis", "NO_GOOD_END"),
    "birth_waits": _in(2, "", "rabbit redis", "NO_GOOD_END"),
}

PAIRS: Final = {
    ("keyed_creates_ask", "repeatable_claims_ask_again"): _in(0, "2", "", "RAN_AFTER_ITS_END_WAS_TOLD"),
    ("rebuild_names_its_epoch", "taken_asks_again"): _in(1, "2", "redis", "RAN_AFTER_ITS_END_WAS_TOLD"),
}
"""Rules that stand in for each other: either alone is not missed here, both are."""

KEPT: Final = {
    "rebuild_names_its_epoch": "The second call of claim parks in a young epoch by itself, and what an answer from an "
    "older epoch misses, the question after the claim sees (PAIRS). It costs one comparison, and spares a rebuild that "
    "is undone.",
    "keyed_creates_ask": "The claim of a keyed task asks after it, so no ended task runs again (PAIRS). But only SQL "
    "knows what to answer to the replay of a task that Redis has let go: its document, or 410.",
    "found_ends_are_settled": "Without it the hash goes, and whoever claims finds none and asks SQL. It spares another "
    "request's message that way, and GET its way to SQL.",
    "retries_ask": "A retry that comes after DELETE meets its mark, and where Redis lost that, the second one or the "
    "barred row ends what it began. But the answer to the retry is 410, not 202.",
    "beats_restore": "Without it a live worker stops when Redis was emptied, and the message starts the run anew: "
    "nothing is lost but the work since the checkpoint.",
    "expired_leases_are_reaped": "The guard comes back by itself, and its claim takes over. The reaper is sooner, and "
    "shows PENDING meanwhile.",
    "doubts_are_lifted": "Housekeeping lifts a doubt whose request is gone; without the request's own lifting its "
    "message parks a minute longer.",
    "barred_rows_mark_the_hash": "Take-over and reaper ask SQL for `forgotten`, too, and mark the hash: a lease later.",
}
"""What no scenario finds missing, and why it stands."""
