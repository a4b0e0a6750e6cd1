"""The long runs: `python -m tests.protocol --faults 2 --ops kd`; `--controls` holds every rule against its scenario."""

import argparse
import sys

from tests.protocol.controls import CLEAN, CONTROLS, LONG
from tests.protocol.rules import NAMES, without
from tests.protocol.scenarios import KINDS, OPS, Scenario
from tests.protocol.search import Found, Search


def main() -> int:
    """Search what the command line says; 1 if anything was found, or a control found nothing."""
    letters = "; ".join(f"{letter}: {meaning}" for letter, meaning in OPS.items())
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description=__doc__)
    parser.add_argument("--faults", type=int, default=1)
    parser.add_argument("--ops", default="", help=letters)
    parser.add_argument("--kinds", default=",".join(sorted(KINDS)), help="which faults (default: all)")
    parser.add_argument("--off", default="", help="rules to switch off, with commas")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--controls", nargs="?", const=",".join(CONTROLS), help="rules; all without a value")
    parser.add_argument("--clean", action="store_true", help="the whole protocol in every scenario that is known")
    arguments = parser.parse_args()
    if arguments.clean:
        known = {*CLEAN, *LONG, *(control.scenario for control in CONTROLS.values())}
        unclean = [scenario for scenario in sorted(known, key=str) if not clean(scenario, arguments.seconds)]
        return int(bool(unclean))
    if arguments.controls:
        silent = [name for name in arguments.controls.split(",") if not control(name, arguments.seconds)]
        return int(bool(silent))
    off = [name for name in arguments.off.split(",") if name]
    for name in set(off) - set(NAMES):
        parser.error(f"no such rule: {name}")
    scenario = Scenario(arguments.faults, arguments.ops, frozenset(arguments.kinds.split(",")))
    found = Search(scenario, without(*off)).run(seconds=arguments.seconds, first_hit=arguments.first)
    say(f"{scenario}, without {', '.join(off) or 'nothing'}", found)
    return int(bool(found.violations))


def clean(scenario: Scenario, seconds: float) -> bool:
    """Search with every rule on; whether all was seen and nothing found."""
    found = Search(scenario).run(seconds=seconds)
    say(str(scenario), found)
    return found.complete and not found.violations


def control(name: str, seconds: float) -> bool:
    """Switch a rule off in its scenario; whether that was found."""
    found = Search(CONTROLS[name].scenario, without(name)).run(seconds=seconds, first_hit=True)
    say(f"{name}: {CONTROLS[name].scenario}", found)
    return CONTROLS[name].finds in found.violations


def say(title: str, found: Found) -> None:
    """Print what a search saw."""
    state = "complete" if found.complete else "stopped"
    print(
        f"{title}: {found.states} states, {found.transitions} steps, {state}, {found.seconds:.1f} s: "
        f"{', '.join(found.violations) or 'clean'}",
        flush=True,
    )
    for name, trace in found.violations.items():
        print(f"  {name}")
        for number, label in enumerate(trace, 1):
            print(f"    {number:2} {label}")


if __name__ == "__main__":
    sys.exit(main())
