"""Signature: how a receiver knows that a webhook is ours, and what it has to do to know.

Two schemes over the raw bytes of the body, side by side:

- `X-Hub-Signature-256: sha256=<hex>`: HMAC-SHA256 of the body, keyed with the whole secret, as text (WebSub, GitHub).
  It has no time in it, so an old webhook can be sent again by whoever has seen it.
- Standard Webhooks (https://www.standardwebhooks.com, 1.0): HMAC-SHA256 of `id.timestamp.body`, keyed with the decoded
  part of `whsec_<base64>`; a receiver refuses what is older than five minutes.
"""

import hmac
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Final

from app.domain.errors import LonghaulError

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
TOLERANCE: Final = timedelta(minutes=5)


class SignatureInvalid(LonghaulError):
    """The signature is not valid."""


def new_secret() -> str:
    """Return a new secret."""
    return PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(body: bytes, *, webhook_id: str, timestamp: int, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers that sign one attempt.

    Args:
        body: The raw bytes.
        webhook_id: The event's id.
        timestamp: When this attempt is made; seconds since the epoch.
        secrets: The older one first, while two are good: X-Hub-Signature has room for one.
    """
    standard = (f"v1,{_standard(secret, webhook_id, timestamp, body)}" for secret in reversed(secrets))
    return {
        "X-Hub-Signature-256": f"sha256={hmac.new(secrets[0].encode(), body, sha256).hexdigest()}",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(standard),
    }


def verify(body: bytes, headers: Mapping[str, str], secret: str, *, now: float | None = None) -> str:
    """Check a webhook as its receiver should: by Standard Webhooks' headers, or, without them, by X-Hub-Signature-256.

    Args:
        body: The raw bytes, as they came.
        headers: By name, in any letter case.
        secret: One of the owner's.
        now: Seconds since the epoch; the clock's time if omitted.

    Returns:
        Which scheme it was: `standard` or `hub`.

    Raises:
        SignatureInvalid: It is not ours, was changed, or is too old. Says which.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    if "webhook-signature" in sent:
        _verify_standard(body, sent, secret, time.time() if now is None else now)
        return "standard"
    signature = sent.get("x-hub-signature-256")
    if signature is None:
        raise SignatureInvalid("There is no signature.")
    expected = f"sha256={hmac.new(secret.encode(), body, sha256).hexdigest()}"
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise SignatureInvalid("X-Hub-Signature-256 is not that of this body under this secret.")
    return "hub"


def _verify_standard(body: bytes, sent: Mapping[str, str], secret: str, now: float) -> None:
    webhook_id, timestamp = sent.get("webhook-id"), sent.get("webhook-timestamp", "")
    if not webhook_id or not timestamp.isascii() or not timestamp.isdecimal():
        raise SignatureInvalid("webhook-id or webhook-timestamp is missing, or is none.")
    if abs(now - int(timestamp)) > TOLERANCE.total_seconds():
        raise SignatureInvalid("webhook-timestamp is more than five minutes away.")
    expected = _standard(secret, webhook_id, int(timestamp), body).encode()
    # All are compared, so that the time tells nothing of which one fits.
    fits = [
        hmac.compare_digest(signature.encode(), expected)
        for version, _, signature in (one.partition(",") for one in sent["webhook-signature"].split())
        if version == "v1"
    ]
    if not any(fits):
        raise SignatureInvalid("webhook-signature is not that of this body under this secret.")


def _standard(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    key = b64decode(secret.removeprefix(PREFIX))
    return b64encode(hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, sha256).digest()).decode()
