"""`python -m stack up | down | run | demo`: what `make` calls. Errors are one line, and exit status 1."""

import argparse
import os
import sys

from stack import background, foreground
from stack.errors import StackError
from stack.settings import StackSettings


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stack", description="The stack of this clone.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it in the background; nothing is done when it is up already")
    commands.add_parser("down", help="stop it, also when its supervisor was killed")
    commands.add_parser("run", help="start it here, run the demo, stop it at Ctrl-C")
    commands.add_parser("demo", help="run the demo on the stack that is up")
    supervise = commands.add_parser("supervise", help="be the supervisor behind `up`")
    supervise.add_argument("--lock", type=int, required=True, help="the descriptor of the lock that `up` holds")
    arguments = parser.parse_args()
    try:
        settings = StackSettings.load(os.environ)
        match arguments.command:
            case "up":
                background.up(settings)
            case "down":
                background.down(settings)
            case "run":
                foreground.run(settings)
            case "demo":
                foreground.demo(settings)
            case "supervise":
                foreground.supervise(settings, arguments.lock)
    except StackError as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
