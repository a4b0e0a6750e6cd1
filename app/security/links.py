"""Links: a result's address that opens without a token, for whoever has it, until the result is removed.

Webhooks carry one: their receivers have no token of the owner's. The signature is an HMAC-SHA256 of task and time under
a key of its own; it says nothing about who may read the task otherwise.
"""

import hmac
import time
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from app.domain.errors import Gone, Unauthorized


class ResultLinks:
    """Signs links to results, and checks them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Take the keys: the first signs, all open."""
        self._keys = keys

    def query(self, task_id: UUID, expires_at: datetime) -> str:
        """Return the query that opens a task's result until then."""
        expires = str(int(expires_at.timestamp()))
        return f"expires={expires}&signature={_signature(self._keys[0], task_id, expires)}"

    def require_good(self, task_id: UUID, expires: str, signature: str) -> None:
        """Check a link's query.

        Raises:
            Unauthorized: It was not signed here, for this task and this time.
            Gone: Its time is over.
        """
        ours = [
            hmac.compare_digest(_signature(key, task_id, expires).encode(), signature.encode()) for key in self._keys
        ]
        if not any(ours):
            raise Unauthorized("The link's signature is not valid.")
        if int(expires) <= time.time():
            raise Gone("The link is past its time, and so is the result.")


def _signature(key: bytes, task_id: UUID, expires: str) -> str:
    return hmac.new(key, f"{task_id}\n{expires}".encode(), sha256).hexdigest()
