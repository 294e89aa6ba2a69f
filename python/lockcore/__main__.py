"""`python -m lockcore`: what lockcore offers on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lockcore._demo._story import ClaimError, play


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lockcore", description="locks for engines")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="play an engine's day on real files, with a crash and a recovery",
        description="Plays an engine's day on real files and processes, with a crash and a"
        " recovery, and checks every claim it makes.",
    )
    demo.add_argument("--keep", action="store_true", help="leave the scratch directory")
    chosen = parser.parse_args(arguments)
    try:
        play(keep=chosen.keep)
    except ClaimError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
