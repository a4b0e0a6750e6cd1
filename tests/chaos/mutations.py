"""Mutations: the product with one guard taken out at a time, each of which a run must find, with every seed.

    python -m tests.chaos.mutations                 # all, each with three seeds, and the whole product as the control
    python -m tests.chaos.mutations token forgotten

Each is a change of the text of a *copy* of the source tree; that the text stands there is asserted, so that a change of
the product changes this file, too. Its run is short, with the faults against which the guard stands.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.stage import ROOT

SEEDS: Final = (1, 2, 3)
TREES: Final = ("app", "workers", "tests", "deploy")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard, how it is taken out, and the faults that it is against."""

    name: str
    guard: str
    file: str
    text: str
    replacement: str
    kinds: tuple[str, ...]
    finds: frozenset[str]
    """The rules of the checker of which at least one must be broken."""
    calm: bool = False
    seconds: int = 20

    def changed(self, tree: Path) -> str:
        """Return the file's text without the guard.

        Raises:
            AssertionError: The guard does not stand there exactly once: the product was changed, and so must this be.
        """
        source = (tree / self.file).read_text()
        assert source.count(self.text) == 1, f"{self.name}: not once in {self.file}: {self.text!r}"
        return source.replace(self.text, self.replacement)


MUTATIONS: Final = (
    Mutation(
        "token",
        "only the newest fencing token changes a task",
        "app/store/scripts/prelude.lua",
        "if status == 'PROCESSING' and stored_run == run and newest == token then",
        "if status == 'PROCESSING' and stored_run == run then",
        kinds=("fence",),
        finds=frozenset({"late-worker"}),
    ),
    Mutation(
        "guard-id",
        "claim drops a message that is not the task's guard",
        "app/store/scripts/claim.lua",
        "elseif guard ~= '' and A.message ~= guard and A.message ~= next_guard then",
        "elseif false then",
        kinds=("duplicate",),
        finds=frozenset({"copies"}),
        calm=True,
        seconds=5,
    ),
    Mutation(
        "refused-row",
        "a message that may still arrive is refused in SQL before its submission is",
        "app/service/publication.py",
        '        await self._archive.doubt(*message)\n        crash_point("after_doubt")\n'
        '        outcome = await self._tasks.abort(envelope)\n        crash_point("after_abort")\n'
        '        if outcome == "ABORTED":\n            refused = await self._archive.refuse(*message)',
        "        outcome = await self._tasks.abort(envelope)\n"
        '        if outcome == "ABORTED":\n            refused = True',
        kinds=("late-then-empty",),
        finds=frozenset({"refused-ran"}),
    ),
    Mutation(
        "row-before-acknowledgement",
        "a message is held until the row of its task's end is written",
        "workers/attempt.py",
        '        crash_point("after_result")\n        while True:\n',
        '        await self._guard.acknowledge()\n        crash_point("after_result")\n        while True:\n',
        kinds=("unwritten-then-empty",),
        finds=frozenset({"lost"}),
    ),
    Mutation(
        "ask-sql",
        "SQL is asked before a task that Redis does not hold is started",
        "workers/execution.py",
        "        task_id, run = envelope.task_id, envelope.run\n        match await self._until_answered(\n",
        "        task_id, run = envelope.task_id, envelope.run\n        return None\n"
        "        match await self._until_answered(\n",
        kinds=("empty-then-old-copies",),
        finds=frozenset({"ran-after-end", "came-back"}),
    ),
    Mutation(
        "restore-by-beat",
        "a living worker brings back what Redis has forgotten",
        "workers/lease.py",
        '            case "MISSING":\n                await self._restore()\n',
        '            case "MISSING":\n                self._lose("LOST")\n',
        kinds=("empty-redis",),
        finds=frozenset({"not-restored"}),
    ),
    Mutation(
        "re-drive",
        "housekeeping gives a new message to a living task that has lost its own",
        "workers/housekeeping/redriver.py",
        "        order = self._sealer.open_order(redrive.envelope,",
        "        return\n        order = self._sealer.open_order(redrive.envelope,",
        kinds=("empty-rabbitmq",),
        finds=frozenset({"stuck"}),
    ),
    Mutation(
        "forgotten",
        "SQL's mark of a deleted task bars it",
        "app/archive/questions.py",
        "        if mark := marks.get(question.task_id):\n",
        "        if False and (mark := marks.get(question.task_id)):\n",
        kinds=("empty-then-old-copies",),
        finds=frozenset({"came-back"}),
        seconds=30,
    ),
    Mutation(
        "hand-over",
        "a job acknowledges its message only when a copy is confirmed",
        "workers/guarding.py",
        "            if await self._replace(self._lease.envelope.succeeded_by(copy_id), self._desk.tasks.lease):\n",
        "            await self._acknowledge()\n            if True:\n",
        kinds=("killed-then-empty",),
        finds=frozenset({"lost"}),
    ),
)


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the source."""
    with tempfile.TemporaryDirectory(prefix="longhaul-mutation-") as name:
        tree = Path(name)
        for part in TREES:
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        yield tree


def broken_rules(mutation: Mutation, seed: int, *, mutated: bool) -> set[str]:
    """Let one run happen; the rules that it breaks.

    Raises:
        RuntimeError: There was no verdict.
    """
    with copied_tree() as tree:
        if mutated:
            (tree / mutation.file).write_text(mutation.changed(tree))
        command = [sys.executable, "-m", "tests.chaos", "--seed", str(seed), "--seconds", str(mutation.seconds)]
        command += ["--kinds", ",".join(mutation.kinds), "--doubles", "0", "--drain", "30" if mutated else "60"]
        command += [] if mutation.calm else ["--no-calm"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "deploy/local")])}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or "violations" not in done.stdout:
            raise RuntimeError(f"{mutation.name}, seed {seed}: no verdict\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return set(re.findall(r"^VIOLATION ([\w'-]+):", done.stdout, re.MULTILINE))


def main() -> int:
    """Run what the command line names; 1 if a mutation was not found with every seed, or the control is not clean."""
    names = [mutation.name for mutation in MUTATIONS]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all without one: {', '.join(names)}")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--no-control", action="store_true", help="do not run the whole product, too")
    arguments = parser.parse_args()
    for name in set(arguments.names) - set(names):
        parser.error(f"no such mutation: {name}")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print("| guard taken out | control | " + " | ".join(f"seed {seed}" for seed in seeds) + " |", flush=True)
    print("| --- " * (len(seeds) + 2) + "|", flush=True)
    missed = 0
    for mutation in MUTATIONS:
        if arguments.names and mutation.name not in arguments.names:
            continue
        cells = []
        if not arguments.no_control:
            found = broken_rules(mutation, seeds[0], mutated=False)
            missed += bool(found)
            cells.append("clean" if not found else f"NOT CLEAN: {', '.join(sorted(found))}")
        for seed in seeds:
            found = broken_rules(mutation, seed, mutated=True)
            is_found = bool(found & mutation.finds)
            missed += not is_found
            cells.append(("red: " if is_found else "MISSED: ") + (", ".join(sorted(found)) or "nothing"))
        print(f"| {mutation.guard} (`{mutation.name}`) | " + " | ".join(cells) + " |", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
