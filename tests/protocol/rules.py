"""Every rule of the protocol, as a switch. `controls.py` names the scenario that finds each one missing.

A rule is on unless a search switches it off. The sentence beside it says what it is and what goes wrong without it.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated, get_type_hints


@dataclass(frozen=True)
class Rules:
    """The protocol (DESIGN, part B)."""

    # The guard
    only_the_guard_claims: Annotated[bool, "claim drops what is neither guard nor next_guard, or copies grow"] = True
    next_guard_claims: Annotated[
        bool, "claim takes next_guard, since a copy may come before it is promoted, or never be promoted"
    ] = True
    copy_before_acknowledgement: Annotated[
        bool, "a message is acknowledged after the confirm of its copy, or a death between them loses the task"
    ] = True
    promote_may_answer_keep: Annotated[
        bool, "of two copies decided on at once the hash knows one: the other's old message stays while it is the guard"
    ] = True
    lost_deliveries_are_discarded: Annotated[
        bool, "a delivery whose channel was lost is not claimed: it will come again, and guards nothing meanwhile"
    ] = True
    a_blind_copy_keeps_its_id: Annotated[
        bool, "parked without a hash, a copy keeps its id: under a new one `refused` would not know it"
    ] = True
    a_parked_task_is_pending: Annotated[
        bool, "claim makes `created` PENDING when it parks it, or `queued` would give the guard to the parked message"
    ] = True
    restore_names_no_guard: Annotated[
        bool, "a restored hash takes the first message that comes: the worker may not know what the guard has become"
    ] = True

    # Runs and tokens
    runs_are_compared: Annotated[bool, "no script touches the hash of a higher run; an older message is dropped"] = True
    only_the_newest_token_changes: Annotated[bool, "beat, commit, release and hand-over need the newest token"] = True

    # Epochs
    young_epochs_wait: Annotated[bool, "nobody rebuilds or takes over in a young epoch: live workers restore first"] = (
        True
    )
    young_epochs_create_nothing: Annotated[
        bool, "a keyed create makes no hash in a young epoch, for the same reason"
    ] = True
    retries_wait_in_young_epochs: Annotated[bool, "nor does a retry that finds no hash: its run may be running"] = True
    rebuild_names_its_epoch: Annotated[
        bool, "a claim that asked SQL in one epoch starts over in the next, where live workers come first again"
    ] = True
    queued_names_its_epoch: Annotated[
        bool, "in another epoch `created` may be another request's, made after this message was taken and dropped"
    ] = True
    queued_knows_its_own: Annotated[bool, "in another epoch, too, queued makes PENDING what names its own message"] = (
        True
    )

    # What SQL knows
    asks_for_a_row: Annotated[bool, "no run is rebuilt that has a row"] = True
    asks_for_refused: Annotated[bool, "nor from a message whose request was answered 503"] = True
    asks_for_forgotten: Annotated[bool, "nor after DELETE"] = True
    takeover_asks: Annotated[bool, "before an expired lease is taken over SQL is asked for a row"] = True
    created_asks: Annotated[bool, "before `created` or `aborted` of another guard is taken SQL is asked"] = True
    rebuilt_asks_again: Annotated[
        bool, "after a rebuild SQL is asked again: an end may have been written meanwhile"
    ] = True
    taken_asks_again: Annotated[
        bool, "and so after `created` of another guard was taken: it is hidden, GET tells the row"
    ] = True
    repeatable_claims_ask_again: Annotated[
        bool, "and after the claim of a keyed task or a retry, whose `created` hid what was written after its question"
    ] = True
    rebuilt_under_a_lease: Annotated[
        bool, "a rebuild goes to PROCESSING: who dies before the second question leaves a take-over"
    ] = True

    # Submission
    doubted_before_abort: Annotated[
        bool, "SQL doubts a message before abort: between its script and the refusal Redis may be emptied"
    ] = True
    refusals_begin_as_doubts: Annotated[
        bool, "claim parks a doubted message and drops a refused one: another request may be promised by it"
    ] = True
    doubts_are_lifted: Annotated[bool, "abort that does not answer 503 takes the doubt back"] = True
    abort_takes_only_its_own: Annotated[bool, "abort touches only `created` that names its own message"] = True
    nothing_to_abort_is_unknown: Annotated[
        bool, "abort that finds nothing of its own answers 500: the message may have run"
    ] = True
    aborted_is_no_hash: Annotated[bool, "queued that finds `aborted` starts over, as without a hash"] = True
    aborted_bars_only_its_own: Annotated[
        bool, "a tombstone bars its own message; another one asks SQL, then takes it"
    ] = True
    created_is_deleted: Annotated[bool, "`created` is never re-driven: nobody was promised it"] = True
    keyed_creates_ask: Annotated[bool, "a keyed create asks SQL before it publishes: the hash may have expired"] = True
    replays_publish: Annotated[
        bool, "a replay that meets `created` publishes a message of its own, or a dead request's stays"
    ] = True
    replays_ask: Annotated[bool, "a replay that meets `created` asks SQL, too"] = True
    queued_starts_over: Annotated[
        bool, "queued without a hash starts over under a key: another request may have made it anew"
    ] = True
    twice_is_unknown: Annotated[bool, "who started over answers 500 for 503: its first message may have run"] = True
    found_ends_are_settled: Annotated[
        bool, "a keyed create that finds a row settles its hash, and never removes it"
    ] = True
    retries_ask: Annotated[bool, "a retry asks for `forgotten` before it publishes"] = True

    # Execution
    beats_restore: Annotated[bool, "a live worker restores the hash that Redis lost"] = True
    restore_asks: Annotated[bool, "before it restores it asks SQL for a row and for `forgotten`"] = True
    only_fresh_beats_restore: Annotated[bool, "a worker whose last beat is older than a lease does not restore"] = True
    restored_asks_again: Annotated[bool, "after a restore SQL is asked again, as after a rebuild"] = True
    expired_leases_are_reaped: Annotated[bool, "the reaper takes back an expired lease"] = True
    claims_wait_until_due: Annotated[bool, "claim parks until not_before"] = True

    # Attempts
    failures_are_charged: Annotated[bool, "a handler's failure is charged, or it fails for ever"] = True
    lost_workers_are_charged: Annotated[
        bool, "and so is a lost worker, or a job that kills its worker does so for ever"
    ] = True
    shutdowns_are_free: Annotated[bool, "a shutdown is not charged"] = True
    attempts_are_capped: Annotated[bool, "claim starts no handler when the attempts are used up"] = True
    dead_before_acknowledgement: Annotated[bool, "the copy lies in `dead` before the message is acknowledged"] = True

    # The end
    row_before_acknowledgement: Annotated[bool, "the message is held until the row is committed"] = True
    row_before_settle: Annotated[bool, "Redis shows an end only after its row"] = True
    first_row_wins: Annotated[bool, "a second row of a run changes nothing"] = True
    row_carries_the_webhook: Annotated[bool, "the row says that its webhook is due; the message only wakes"] = True
    settle_never_makes_a_hash: Annotated[
        bool, "settle changes a hash that is there, or it brings back what DELETE forgot"
    ] = True
    settle_compares_runs: Annotated[bool, "settle touches no higher run, and nothing forgotten"] = True
    settle_lifts_a_lower_run: Annotated[
        bool, "settle replaces the end of a lower run, or that one is shown until it expires"
    ] = True
    settle_leaves_the_hidden: Annotated[
        bool, "settle does not touch `created`: its request asks SQL itself, and may hear that all was deleted"
    ] = True
    tellers_settle_first: Annotated[bool, "who tells an end settles it first"] = True
    barred_rows_are_not_settled: Annotated[bool, "an end that `forgotten` barred from its row is not settled"] = True
    barred_rows_mark_the_hash: Annotated[
        bool, "whose row is barred marks the hash, or the task is taken over, run and barred for ever"
    ] = True

    # DELETE
    delete_marks_first: Annotated[bool, "DELETE marks the hash before it blanks the rows, or a retry comes between"] = (
        True
    )
    first_mark_is_provisional: Annotated[
        bool, "the first mark expires, and claim asks SQL whether it holds: a DELETE that died promised nothing"
    ] = True
    delete_marks_again: Annotated[bool, "and marks it again after that: Redis may have been emptied"] = True
    forgotten_bars_rows: Annotated[bool, "no row is written over a forgotten one"] = True

    # Housekeeping
    losses_are_redriven: Annotated[bool, "the re-driver publishes a guard for what has none"] = True
    birth_redrives: Annotated[bool, "after RabbitMQ was emptied every living task gets a new guard before the mark"] = (
        True
    )
    birth_waits: Annotated[bool, "but only after requests with a confirm in hand were answered"] = True


ALL = Rules()
NAMES = tuple(field.name for field in fields(Rules))


def without(*names: str) -> Rules:
    """Return the protocol without some of its rules."""
    return replace(ALL, **dict.fromkeys(names, False))


def why(name: str) -> str:
    """Return the sentence of a rule."""
    sentence: str = get_type_hints(Rules, include_extras=True)[name].__metadata__[0]
    return sentence
