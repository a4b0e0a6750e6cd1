"""How much of the world a search looks at, so that it ends.

A scenario says how many faults there are and of which kinds, how many requests, and what the owner does beside.
"""

from dataclasses import dataclass
from typing import Final

from tests.protocol.state import IDLE, Budget, Keeper, Request, Sql, State, User

KINDS: Final = frozenset({"kill", "pause", "confirm", "redis", "rabbit", "loss", "channel"})
"""kill: a process, anywhere. pause: a worker, past its lease. confirm: the answer to a publish or a create is lost.
redis: emptied, or restarted with its data. rabbit: emptied. loss: the broker loses one message. channel: a delivery
comes again while its worker goes on."""

OPS: Final = {
    "k": "cancel",
    "r": "retry",
    "R": "two retries",
    "d": "DELETE",
    "h": "a job so long that it is handed over",
    "p": "shutdown of a worker",
    "w": "not_before",
    "f": "a handler that fails, or kills its worker",
    "e": "a re-driver that is wrong once",
    "q": "an operator who takes a running task from its worker",
    "2": "two keyed requests",
    "3": "two keyed requests that race, and a later one",
}


@dataclass(frozen=True)
class Scenario:
    """What may happen in a search.

    Args:
        faults: How many.
        ops: Letters of OPS.
        kinds: Which faults.
    """

    faults: int = 0
    ops: str = ""
    kinds: frozenset[str] = KINDS

    def __post_init__(self) -> None:
        """Refuse letters and kinds that mean nothing."""
        unknown = set(self.ops) - set(OPS) | self.kinds - KINDS
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")

    @property
    def keyed(self) -> int:
        """How many requests share an Idempotency-Key."""
        return 3 if "3" in self.ops else 2 if "2" in self.ops else 0

    @property
    def retries(self) -> int:
        """How many retries of run 1."""
        return 2 if "R" in self.ops else int("r" in self.ops)

    @property
    def hands_over(self) -> bool:
        """Whether a running worker may let go of its delivery."""
        return "h" in self.ops

    @property
    def fails(self) -> bool:
        """Whether the handler only ever fails, and attempts are counted."""
        return "f" in self.ops

    def __str__(self) -> str:
        """Name it as the command line does."""
        kinds = "" if self.kinds == KINDS or not self.faults else f" of {'+'.join(sorted(self.kinds))}"
        return f"{self.faults} faults{kinds}, ops {self.ops or '-'}"

    def first(self) -> State:
        """Return the state in which nothing has happened yet."""
        requests = (Request(),) * (self.keyed or 1) + (Request(run=2),) * self.retries
        user = User(cancel="may" if "k" in self.ops else "no", delete="may" if "d" in self.ops else "no")
        budget = Budget(
            faults=self.faults,
            releases=int("p" in self.ops),
            redrives=int("e" in self.ops),
            requeues=int("q" in self.ops),
            due="w" not in self.ops,
        )
        return State(None, False, (), (), True, Sql(), (IDLE, IDLE), requests, user, Keeper(), budget)
