"""Task token keys: each task token is signed with a key of its own, derived for that task and those scopes.

All of them come from the encryption keys by HKDF (RFC 5869), each for this purpose only, so that no access token, no
sealed payload and no other task's token is ever made with the same key. The first encryption key signs, and every one
verifies: a rotation voids no token while the old key is still configured.
"""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.security.principal import Scope

PURPOSE: Final = b"longhaul task token\0"
FIRST_BLOCK: Final = b"\x01"
SCOPES: Final = f"{Scope.READ} {Scope.SUBMIT}"
"""What a task token is good for, on its one task."""


class TaskTokenKeys:
    """The keys of task tokens."""

    def __init__(self, encryption_keys: Mapping[str, bytes]) -> None:
        """Take what they are derived from.

        Args:
            encryption_keys: Key id to 32 bytes; the first one signs, all verify.
        """
        extracted = {key_id: HKDF.extract(hashes.SHA256(), None, key) for key_id, key in encryption_keys.items()}
        self._extracted = {key_id: HMAC(key, hashes.SHA256()) for key_id, key in extracted.items()}
        self.first = next(iter(encryption_keys))

    def key(self, key_id: str, task_id: UUID, scopes: str) -> str:
        """Return the key of one task's tokens, as text; KeyError for an unknown key id."""
        info = PURPOSE + task_id.bytes + scopes.encode()
        # HKDF-Expand of one block is one HMAC (RFC 5869, section 2.3); cryptography's takes four times as long.
        block = self._extracted[key_id].copy()
        block.update(info + FIRST_BLOCK)
        return block.finalize().hex()
