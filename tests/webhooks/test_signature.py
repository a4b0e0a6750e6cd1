"""Both signatures, against somebody else's verifier and our own, and against all that is not ours."""

import hmac
import time
from base64 import b64decode
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.webhooks.message import webhook_id
from app.webhooks.signature import SignatureInvalid, new_secret, signed_headers, verify

NOW = int(time.time())
BODY = b'{"task_id":"1"}'
SECRET, OTHER = new_secret(), new_secret()


def headers(
    body: bytes = BODY, *, secrets: tuple[str, ...] = (SECRET,), timestamp: int | None = None
) -> dict[str, str]:
    """Return the headers of an attempt; without a timestamp, of one that is made now."""
    return signed_headers(body, webhook_id="msg_1", timestamp=timestamp or int(time.time()), secrets=secrets)


def test_a_secret_is_what_the_standard_wants() -> None:
    assert SECRET.startswith("whsec_")
    assert len(b64decode(SECRET.removeprefix("whsec_"), validate=True)) == 32
    assert SECRET != OTHER


@given(st.text().map(lambda text: f'"{text}"'.encode("utf-8", "replace")))
def test_anothers_verifier_and_ours_agree(body: bytes) -> None:
    signed = headers(body)
    _standard_ok(body, signed)
    assert verify(body, signed, SECRET) == "standard"


def _standard_ok(body: bytes, signed: dict[str, str]) -> None:
    theirs = Webhook(SECRET).sign(
        signed["webhook-id"], datetime.fromtimestamp(int(signed["webhook-timestamp"]), tz=UTC), body.decode()
    )
    assert theirs == signed["webhook-signature"]


def test_the_older_way_is_the_seeds_own_words() -> None:
    expected = hmac.new(SECRET.encode(), BODY, sha256).hexdigest()
    assert headers()["X-Hub-Signature-256"] == f"sha256={expected}"
    assert verify(BODY, {"x-hub-signature-256": f"sha256={expected}"}, SECRET) == "hub"


def test_during_a_rotation_both_verify_and_hub_has_the_older() -> None:
    signed = headers(secrets=(SECRET, OTHER))
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(BODY, signed)
        assert verify(BODY, signed, secret) == "standard"
    only_hub = {"X-Hub-Signature-256": signed["X-Hub-Signature-256"]}
    assert verify(BODY, only_hub, SECRET) == "hub"
    with pytest.raises(SignatureInvalid):
        verify(BODY, only_hub, OTHER)


@pytest.mark.parametrize("at", range(len(BODY)))
def test_one_changed_bit_is_noticed(at: int) -> None:
    changed = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]
    signed = headers()
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(changed, signed)
    for sent in (signed, {"X-Hub-Signature-256": signed["X-Hub-Signature-256"]}):
        with pytest.raises(SignatureInvalid):
            verify(changed, sent, SECRET)


WRONG = {
    "another secret": headers(secrets=(OTHER,)),
    "old": headers(timestamp=NOW - 301),
    "of the future": headers(timestamp=NOW + 301),
    "another id": headers() | {"webhook-id": "msg_2"},
    "another time": headers() | {"webhook-timestamp": str(NOW - 1)},
    "no time": headers() | {"webhook-timestamp": ""},
    "a broken time": headers() | {"webhook-timestamp": "²"},
    "no id": headers() | {"webhook-id": ""},
    "no signature in it": headers() | {"webhook-signature": ""},
    "another version": headers() | {"webhook-signature": headers()["webhook-signature"].replace("v1", "v2")},
    "not ASCII": headers() | {"webhook-signature": "v1,é"},
    "nothing": {},
    "hub without its name": {"X-Hub-Signature-256": headers()["X-Hub-Signature-256"].removeprefix("sha256=")},
    "hub, not ASCII": {"X-Hub-Signature-256": "sha256=é"},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_ours_is_refused(name: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(BODY, WRONG[name], SECRET, now=NOW)


def test_an_id_is_that_of_an_event() -> None:
    task = uuid4()
    ids = {webhook_id(task, run, event) for run in (1, 2) for event in ("started", "completed")}
    assert len(ids | {webhook_id(uuid4(), 1, "completed")}) == 5
    assert webhook_id(task, 1, "completed") in ids
