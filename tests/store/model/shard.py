"""What Redis keeps of one task and its shard, and the few steps of which the scripts are made."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from app.store.keys import PUBLIC_FIELDS

Value = str | bytes | int | None
Reply = Any
"""A value, or a list of them."""

ENDS: Final = ("COMPLETED", "FAILED", "CANCELLED")
ALIVE: Final = ("PENDING", "PROCESSING")


class Arguments:
    """A script's arguments: `a["run"]`, `a.number("run")`, and the fields of a hash."""

    def __init__(self, named: dict[str, bytes], fields: dict[str, bytes]) -> None:
        self._named = named
        self.fields = fields

    def __getitem__(self, name: str) -> bytes:
        return self._named[name]

    def text(self, name: str) -> str:
        """Return an argument as text."""
        return self._named[name].decode()

    def number(self, name: str) -> int:
        """Return an argument as a number."""
        return int(self._named[name])

    def says(self, name: str) -> bool:
        """Return whether a yes was said."""
        return self._named[name] == b"1"


@dataclass
class Shard:
    """The task's hash with its TTL, its place among the living, the epoch, what was published, and the clock."""

    now: int
    hash: dict[str, bytes] = field(default_factory=dict)
    ttl: int | None = None
    live: int | None = None
    epoch: dict[str, bytes] = field(default_factory=dict)
    published: list[list[bytes | None]] = field(default_factory=list)

    def copy(self) -> "Shard":
        """Return all of it as it is now."""
        return deepcopy(self)

    def lose_all(self) -> None:
        """FLUSHALL."""
        self.hash, self.ttl, self.live, self.epoch = {}, None, None, {}

    def lose_task(self) -> None:
        """Its TTL runs out."""
        self.hash, self.ttl = {}, None

    @property
    def status(self) -> str:
        """The status, an empty string without a hash."""
        return self.text("status")

    @property
    def run(self) -> int:
        """The run, 0 without one."""
        return self.number("run")

    def text(self, name: str) -> str:
        """Return a field as text, an empty string if it is not there."""
        return self.hash.get(name, b"").decode()

    def number(self, name: str) -> int:
        """Return a field as a number, 0 if it is not there."""
        return int(self.hash.get(name, b"0"))

    def put(self, **fields: Value) -> None:
        """Set fields."""
        self.hash.update({name: encoded(value) for name, value in fields.items() if value is not None})

    def remove(self, names: Iterable[str]) -> None:
        """Remove fields."""
        for name in names:
            self.hash.pop(name, None)

    def make_anew(self, fields: dict[str, bytes], *, seq: int) -> None:
        """Make the hash from these fields alone; its token goes on."""
        token = self.number("token")
        self.hash, self.ttl = {"seq": encoded(seq), "token": encoded(token), **fields}, None

    def document(self) -> list[bytes | None]:
        """Return the public fields."""
        return [self.hash.get(name) for name in PUBLIC_FIELDS]

    def change(self, *, jump: bool = False, **fields: Value) -> list[bytes | None]:
        """Set fields, raise seq, and publish."""
        seq = self.number("seq") + 1
        self.put(seq=max(seq, self.now) if jump else seq, **fields)
        self.published.append(self.document())
        return self.document()

    def confirmed(self) -> None:
        """A message of it is in the broker, as of now."""
        self.live = self.now

    def epoch_and_youth(self, a: Arguments) -> tuple[bytes, int]:
        """Return the epoch, made if it is missing, and for how many ms it is young."""
        if not self.epoch:
            self.epoch = {"id": a["nonce"], "since": encoded(self.now)}
        lease = a.number("lease")
        return self.epoch["id"], min(lease, int(self.epoch["since"]) + lease - self.now)

    def held(self, a: Arguments) -> str:
        """Return HELD, LOST or MISSING: whether this token may still change this run."""
        if self.status == "forgotten":
            return "LOST"
        if not self.hash or self.run < a.number("run"):
            return "MISSING"
        newest = self.run == a.number("run") and self.number("token") == a.number("token")
        return "HELD" if self.status == "PROCESSING" and newest else "LOST"

    def charge_a_lost_worker(self) -> int:
        """Return the charges with the attempt's, unless it had stored a checkpoint."""
        stored = "committed_in" in self.hash and self.hash["committed_in"] == self.hash["attempt"]
        return self.number("charged") + (0 if stored else 1)


def encoded(value: Value) -> bytes:
    """Write a value as Redis keeps it."""
    return value if isinstance(value, bytes) else str(value).encode()


def normal(reply: Reply) -> Reply:
    """Write a reply in one way, from the model or from Redis: numbers as text, None as it is."""
    if isinstance(reply, list):
        return [normal(part) for part in reply]
    return None if reply is None else encoded(reply)
