"""The steps of a report, each of which is done once: an attempt takes over what an earlier one has committed.

A step's result always passes through JSON, so that a report is the same to the byte whether its numbers were computed
in this attempt or read from a checkpoint. What would not fit into a checkpoint is left out of it and computed again.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from workers.job import MAX_CHECKPOINT_BYTES, BlockingJob

VERSION = 1  # raise it when a step's result changes its shape, so that an older checkpoint is not taken over
COMMIT_INTERVAL_SECONDS = 0.5
SPARE_BYTES = 1024


class Steps:
    """The ledger of one attempt."""

    def __init__(self, job: BlockingJob, *, fingerprint: str) -> None:
        """Take over the last checkpoint, if it is of the same data.

        Args:
            job: Whose checkpoint it is.
            fingerprint: Names the data; results of other data are dropped.
        """
        self._job = job
        self._head = {"version": VERSION, "data": fingerprint}
        checkpoint = job.checkpoint if isinstance(job.checkpoint, dict) else {}
        same = all(checkpoint.get(key) == value for key, value in self._head.items())
        self._results: dict[str, Any] = dict(checkpoint["results"]) if same else {}
        self._size = SPARE_BYTES + len(json.dumps(self._results))
        self._committed_at = time.monotonic()

    def do(self, name: str, work: Callable[[], Any]) -> Any:
        """Return the result of a step: the committed one, or that of `work`, which must give JSON.

        Commits at most every half second, since a commit is a round trip to the store.
        """
        if name in self._results:
            return self._results[name]
        text = json.dumps(work())
        result = json.loads(text)
        size = len(text) + len(json.dumps(name)) + 4
        if self._size + size <= MAX_CHECKPOINT_BYTES:
            self._size += size
            self._results[name] = result
            if time.monotonic() - self._committed_at >= COMMIT_INTERVAL_SECONDS:
                self.commit()
        return result

    def commit(self) -> None:
        """Store what is done so far."""
        self._job.commit({**self._head, "results": self._results})
        self._committed_at = time.monotonic()
