"""Sealing: what was sealed for one task and action opens for these only, under any configured key."""

import os
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import Undecryptable
from app.security.sealing import NONCE_BYTES, Sealer

OLD, NEW = os.urandom(32), os.urandom(32)
TASK = UUID("550e8400-e29b-41d4-a716-446655440000")
SEALER = Sealer({"new": NEW, "old": OLD})


def seal(plain: bytes = b"secret", sealer: Sealer = SEALER) -> bytes:
    """Seal for TASK and the action noop."""
    return sealer.seal(plain, task_id=TASK, action="noop")


@given(st.binary(max_size=300))
def test_what_is_sealed_opens_and_cannot_be_read_before(plain: bytes) -> None:
    sealed = seal(plain)
    assert SEALER.open(sealed, task_id=TASK, action="noop") == plain
    if len(plain) > 8:
        assert plain not in sealed


def test_it_opens_for_no_other_task_and_no_other_action() -> None:
    for task_id, action in ((uuid4(), "noop"), (TASK, "sleep"), (TASK, "noop "), (TASK, "")):
        with pytest.raises(Undecryptable):
            SEALER.open(seal(), task_id=task_id, action=action)


def test_any_changed_byte_is_noticed() -> None:
    sealed = seal()
    for place in range(len(sealed)):
        for bit in (1, 128):
            changed = bytearray(sealed)
            changed[place] ^= bit
            with pytest.raises(Undecryptable):
                SEALER.open(bytes(changed), task_id=TASK, action="noop")


def test_cut_or_longer_bytes_are_noticed() -> None:
    sealed = seal()
    for broken in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", b"\xff", b"\xff" * 300):
        with pytest.raises(Undecryptable):
            SEALER.open(broken, task_id=TASK, action="noop")


def test_the_first_key_seals_and_every_key_opens() -> None:
    before, after = Sealer({"old": OLD}), Sealer({"new": NEW})
    assert SEALER.open(seal(sealer=before), task_id=TASK, action="noop") == b"secret"
    assert after.open(seal(), task_id=TASK, action="noop") == b"secret"
    with pytest.raises(Undecryptable):
        before.open(seal(), task_id=TASK, action="noop")


def test_a_retired_key_opens_nothing_and_a_key_under_anothers_name_neither() -> None:
    for other in (Sealer({"newer": NEW}), Sealer({"new": OLD})):
        with pytest.raises(Undecryptable):
            other.open(seal(), task_id=TASK, action="noop")


def test_no_nonce_comes_twice() -> None:
    start = 1 + len("new")
    nonces = {seal()[start : start + NONCE_BYTES] for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_derived_keys_differ_by_purpose_and_from_their_source() -> None:
    keys = {
        SEALER.derived_keys("task tokens")[0],
        SEALER.derived_keys("other")[0],
        Sealer({"a": OLD}).derived_keys("other")[0],
        NEW,
    }
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)
    assert SEALER.derived_keys("task tokens")[0] == Sealer({"x": NEW}).derived_keys("task tokens")[0]
