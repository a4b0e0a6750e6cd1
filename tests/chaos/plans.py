"""Plans: what a caller will order, and what it will do with it afterwards; all from the seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Plan:
    """One submission."""

    label: str
    """Names it, in the order and on the task."""
    subject: str
    order: dict[str, Any]
    key: str | None
    """Its Idempotency-Key."""
    repeats: tuple[float, ...] = ()
    """After how many seconds the request is repeated, by another connection; 0: at the same time."""
    gives_up: bool = False
    """Whether it is content with a refusal."""
    cancels_after: float | None = None
    watches: str = ""
    """`poll`, `socket`, or nothing."""
    retries: bool = False
    """Whether it retries what has not completed."""
    deletes: bool = False
    repeats_after_delete: bool = False
    is_calm: bool = False
    """Whether it is one of those that are still at work when all else has ended."""


WORK: Final[list[tuple[float, str]]] = [
    (30, "quick"),
    (12, "quick hard"),
    (16, "long"),
    (8, "long hard"),
    (9, "delayed"),
    (6, "flaky"),
    (4, "later"),
    (4, "flaky hard"),
    (3, "fatal"),
    (3, "hopeless"),
    (3, "suicidal"),
    (2, "deadly"),
]


Maker = Callable[[random.Random], dict[str, Any]]


def _hopeless(chance: random.Random) -> dict[str, Any]:
    action = chance.choice(("soft", "hard"))
    return {"action": action, "steps": 2, "seconds": 0.1, **_fails("error", at=1), "max_attempts": 3}


def _fails(how: str, *, at: int, times: int = 1000) -> dict[str, Any]:
    return {"how": how, "fails_at": at, "failures": times}


MAKERS: Final[dict[str, Maker]] = {
    "quick": lambda chance: {
        "action": "soft",
        "steps": chance.randint(1, 4),
        "seconds": round(chance.uniform(0.02, 0.3), 3),
        "commits": chance.random() < 0.7,
        "file": chance.random() < 0.4,
    },
    "quick hard": lambda chance: {
        "action": "hard",
        "steps": chance.randint(1, 3),
        "seconds": 0.15,
        "file": chance.random() < 0.4,
    },
    "long": lambda chance: {
        "action": "soft",
        "steps": chance.randint(8, 18),
        "seconds": 0.5,
        "file": chance.random() < 0.4,
    },
    "long hard": lambda chance: {
        "action": "hard",
        "steps": chance.randint(6, 12),
        "seconds": 0.5,
        "file": chance.random() < 0.4,
    },
    "delayed": lambda chance: {
        "action": "soft",
        "steps": 1,
        "seconds": 0.1,
        "delay_seconds": round(chance.uniform(0.5, 7), 1),
    },
    "flaky": lambda _: {"action": "soft", "steps": 3, "seconds": 0.2, **_fails("error", at=2, times=2)},
    "later": lambda _: {"action": "soft", "steps": 2, "seconds": 0.1, **_fails("retry", at=1, times=1)},
    "flaky hard": lambda _: {"action": "hard", "steps": 3, "seconds": 0.2, **_fails("error", at=1, times=1)},
    "fatal": lambda _: {"action": "soft", "steps": 2, "seconds": 0.1, **_fails("fatal", at=1)},
    "hopeless": _hopeless,
    "suicidal": lambda chance: {
        "action": "hard",
        "steps": 3,
        "seconds": 0.1,
        **_fails(chance.choice(("exit", "kill")), at=2, times=1),
    },
    "deadly": lambda _: {"action": "hard", "steps": 2, **_fails("kill", at=1), "max_attempts": 2},
}
"""The body of an order of such work, less its marks."""


def marked(order: dict[str, Any], label: str) -> dict[str, Any]:
    """Return the whole body."""
    return {**order, "mark": label, "labels": [label]}


def plan(seed: int, number: int, *, works: list[tuple[float, str]] = WORK) -> Plan:
    """Return the plan of the n-th submission."""
    chance = random.Random(f"plan {seed} {number}")
    label = f"s{number}"
    (work,) = chance.choices([name for _, name in works], [weight for weight, _ in works])
    keyed = chance.random() < 0.5
    repeats: tuple[float, ...] = ()
    if keyed and chance.random() < 0.45:
        repeats = tuple(chance.choice((0.0, chance.uniform(0.01, 0.2), chance.uniform(0.5, 12))) for _ in range(2))
    deletes = chance.random() < 0.15
    return Plan(
        label=label,
        subject=chance.choice(("alice", "bob")),
        order=marked(MAKERS[work](chance), label),
        key=f"key-{seed}-{number}" if keyed else None,
        repeats=repeats,
        gives_up=not keyed or chance.random() < 0.3,
        cancels_after=round(chance.uniform(0, 4), 2) if chance.random() < 0.08 else None,
        watches=chance.choices(["poll", "socket", ""], [30, 12, 58])[0],
        retries=chance.random() < 0.4,
        deletes=deletes,
        repeats_after_delete=deletes and keyed and chance.random() < 0.7,
    )


def ballast(seed: int, number: int) -> Plan:
    """Return the plan of a long job that keeps work in flight."""
    chance = random.Random(f"ballast {seed} {number}")
    label = f"b{number}"
    return Plan(
        label=label,
        subject=chance.choice(("alice", "bob")),
        order=marked(MAKERS[chance.choice(("long", "long", "long hard"))](chance), label),
        key=f"ballast-{seed}-{number}" if chance.random() < 0.5 else None,
    )


def calm(seed: int, number: int, seconds: float) -> Plan:
    """Return the plan of a job that is still at work when all else has ended."""
    label = f"c{number}"
    steps = {"action": "soft", "steps": int(seconds / 0.5), "seconds": 0.5, "file": True}
    key = f"calm-{seed}-{number}"
    return Plan(label=label, subject="alice", order=marked(steps, label), key=key, watches="poll", is_calm=True)
