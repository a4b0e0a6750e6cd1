"""Sealing: AES-256-GCM for what broker, store and archive keep of a caller's payload.

Sealed form: one byte of key id length, the key id, a random 96-bit nonce, the ciphertext with its tag. The additional
data bind it to one task and one action, so that the sealed payload of one task does not open as another's. The first
key seals; all open. (NIST SP 800-38D; random nonces bound one key to 2^32 seals.)
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.domain.envelope import Envelope
from app.domain.errors import Undecryptable

NONCE_BYTES: Final = 12


class Sealer:
    """Seals and opens under the configured keys."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take the keys.

        Args:
            keys: Key id to 32 bytes; the first one seals.
        """
        self._ciphers = {key_id.encode(): AESGCM(key) for key_id, key in keys.items()}
        self._first = next(iter(self._ciphers))
        self._head = bytes([len(self._first)]) + self._first
        self._keys = list(keys.values())

    def seal(self, plain: bytes, *, task_id: UUID, action: str) -> bytes:
        """Encrypt and authenticate `plain` for this task and action."""
        nonce = os.urandom(NONCE_BYTES)
        return self._head + nonce + self._ciphers[self._first].encrypt(nonce, plain, _bound_to(task_id, action))

    def open(self, sealed: bytes, *, task_id: UUID, action: str) -> bytes:
        """Decrypt what `seal` made for the same task and action.

        Raises:
            Undecryptable: The key is unknown, the bytes were changed, or they belong to another task or action.
        """
        end = 1 + sealed[0] if sealed else 1
        cipher = self._ciphers.get(sealed[1:end])
        if cipher is None:
            raise Undecryptable("It was sealed under a key that is not configured.")
        nonce, body = sealed[end : end + NONCE_BYTES], sealed[end + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, _bound_to(task_id, action))
        except (InvalidTag, ValueError) as error:
            raise Undecryptable from error

    def seal_order(self, envelope: Envelope) -> bytes:
        """Seal a whole order."""
        return self.seal(envelope.model_dump_json().encode(), task_id=envelope.task_id, action=envelope.action)

    def open_order(self, sealed: bytes, *, task_id: UUID, action: str) -> Envelope:
        """Open what `seal_order` made; raises like `open`."""
        return Envelope.model_validate_json(self.open(sealed, task_id=task_id, action=action))

    def seal_json(self, value: Any, *, task_id: UUID, action: str) -> bytes | None:
        """Seal a JSON value; None stays None."""
        return None if value is None else self.seal(json.dumps(value).encode(), task_id=task_id, action=action)

    def open_json(self, sealed: bytes | None, *, task_id: UUID, action: str) -> Any:
        """Open what `seal_json` made; raises like `open`."""
        return None if sealed is None else json.loads(self.open(sealed, task_id=task_id, action=action))

    def derived_keys(self, purpose: str) -> list[bytes]:
        """Return 32 bytes for another purpose from each key (HKDF, RFC 5869), the first one's first.

        What the first one signed is good after a rotation.
        """
        return [HKDF(hashes.SHA256(), 32, salt=None, info=purpose.encode()).derive(key) for key in self._keys]


def _bound_to(task_id: UUID, action: str) -> bytes:
    return task_id.bytes + action.encode()
