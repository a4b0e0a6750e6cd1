"""A model of the scripts in plain Python, written from the protocol: one task, its shard, and a clock of its own.

`shard.py` is what Redis keeps; `submission`, `claiming`, `holding`, `ends` and `housekeeping` have a function for each
script, under its name. `answer` runs one.
"""

from collections.abc import Callable
from typing import Final

from tests.store.model import claiming, ends, holding, housekeeping, submission
from tests.store.model.shard import Arguments, Reply, Shard

SCRIPTS: Final[dict[str, Callable[[Shard, Arguments], Reply]]] = {
    "create": submission.create,
    "rerun": submission.rerun,
    "queued": submission.queued,
    "abort": submission.abort,
    "claim": claiming.claim,
    "promote": holding.promote,
    "beat": holding.beat,
    "commit": holding.commit,
    "restore": holding.restore,
    "hand_over": holding.hand_over,
    "release": holding.release,
    "requeue": holding.requeue,
    "settle": ends.settle,
    "cancel": ends.cancel,
    "forget": ends.forget,
    "redrive": housekeeping.redrive,
    "renew_epoch": housekeeping.renew_epoch,
}


def answer(shard: Shard, name: str, arguments: Arguments) -> Reply:
    """Change the shard as the script would, and return its reply."""
    return SCRIPTS[name](shard, arguments)
