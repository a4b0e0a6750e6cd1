"""Schedule: which faults come, in which order, for how long, and of what chance: all of it from the seed.

The same seed gives the same schedule. Kinds are dealt like cards, so each comes as often as every other one; in every
fifth step there are two faults at once.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

DOUBLES: Final = 0.2


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault."""

    name: str
    touches: frozenset[str]
    """What is broken: two faults at once have nothing of it in common."""
    empties: str = ""
    """The store that loses what it holds."""
    sets_back: bool = False
    """Whether it comes back with an older state instead of with none."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """How long it lasts, at least and at most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a step."""

    kind: Kind
    seconds: float
    chance: int
    """Decides whatever is left to be decided: which worker, which connection."""

    @property
    def random(self) -> random.Random:
        """The same throws each time."""
        return random.Random(self.chance)


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, or two at once."""

    number: int
    faults: tuple[Fault, ...]
    apart: float
    """Seconds by which the second one comes later."""
    pause: float
    """Seconds of peace afterwards."""

    @property
    def empties(self) -> frozenset[str]:
        """The stores that lose what they hold."""
        return frozenset(fault.kind.empties for fault in self.faults if fault.kind.empties)


def may_meet(one: Kind, other: Kind) -> bool:
    """Whether two kinds may come at once: on different things, and never both stores emptied."""
    return not one.touches & other.touches and not (one.empties and other.empties)


def schedule(seed: int, kinds: Sequence[Kind], *, doubles: float = DOUBLES) -> Iterator[Step]:
    """Deal the steps, for ever."""
    chance = random.Random(f"schedule {seed}")
    bag: list[Kind] = []
    number = 0
    while True:
        number += 1
        first, bag = _dealt(bag, kinds, chance)
        drawn = [first]
        if chance.random() < doubles:
            others = [kind for kind in bag if may_meet(first, kind)]
            if others:
                second = chance.choice(others)
                bag.remove(second)
                drawn.append(second)
        faults = tuple(Fault(kind, chance.uniform(*kind.seconds), chance.getrandbits(32)) for kind in drawn)
        yield Step(number, faults, apart=chance.uniform(0, 1), pause=chance.uniform(0.5, 2))


def _dealt(bag: list[Kind], kinds: Sequence[Kind], chance: random.Random) -> tuple[Kind, list[Kind]]:
    if not bag:
        bag = list(kinds)
        chance.shuffle(bag)
    return bag[0], bag[1:]
