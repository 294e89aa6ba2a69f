"""`python -m virtualization`: the demo, or an engine with an HTTP front.

    demo                  a short story on real files, with a crash and a recovery
    serve DIRECTORY       serves the data centre in a directory, which is built if it is empty

Run it with the directory `examples` in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from virtualization import line_front, story
from virtualization.narration import ClaimError


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m virtualization")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    demo = actions.add_parser("demo", help="play a short story, with a crash and a recovery")
    demo.add_argument("--keep", action="store_true", help="leave the scratch directory")
    serve = actions.add_parser("serve", help="serve a data centre over HTTP")
    serve.add_argument("directory", type=Path)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000, help="0 is any that is free")
    serve.add_argument(
        "--grace",
        type=int,
        default=5,
        metavar="SECONDS",
        help="how long to wait at the end for requests under way",
    )
    serve.add_argument(
        "--drain",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait at the end for commands under way; the rest is left for recovery",
    )
    actions.add_parser("lines", help="serve standard input, for the demo")
    chosen = parser.parse_args(arguments)
    if chosen.action == "lines":
        line_front.serve()
        return 0
    if chosen.action == "serve":
        return serve_http(chosen)
    try:
        story.play(keep=chosen.keep)
    except ClaimError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve_http(chosen: argparse.Namespace) -> int:
    """Serves until it is terminated."""
    try:
        from virtualization import http_front  # noqa: PLC0415 - only this needs more than lockcore
    except ImportError as error:
        print(f"{error}: pip install starlette uvicorn", file=sys.stderr)
        return 1
    chosen.directory.mkdir(parents=True, exist_ok=True)
    os.chdir(chosen.directory)
    http_front.serve(host=chosen.host, port=chosen.port, grace=chosen.grace, drain=chosen.drain)
    return 0


if __name__ == "__main__":
    sys.exit(main())
