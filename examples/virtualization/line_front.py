"""The engine behind a pipe, for the demo: requests and answers are lines of JSON.

Each request has a number, which its answer has too, and is served in a thread of its own. The
engine is closed when standard input ends; tasks go on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from lockcore.engine import Engine
from virtualization.engine import COMMANDS, described, locks_held, make_engine


def serve() -> None:
    """Serves until standard input ends. The first line of output is the recovery report."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with make_engine() as engine:
        report = engine.recovery
        answer({"resumed": report.resumed, "ended": report.ended, "text": str(report)})
        for line in sys.stdin:
            threading.Thread(target=serve_one, args=(engine, json.loads(line))).start()


def serve_one(engine: Engine, request: dict[str, Any]) -> None:
    """Answers one request."""
    number, what = request.pop("number"), request.pop("request")
    answer({"number": number, "answer": REQUESTS[what](engine, **request)})


def run(engine: Engine, name: str, parameters: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Runs a command."""
    return described(engine.run(COMMANDS[name](**parameters), **options), name)


def wait(engine: Engine, command_id: str, timeout: float) -> dict[str, Any]:
    """Waits for the end of a command."""
    return described(engine.wait(command_id, timeout=timeout))


def status(engine: Engine, command_id: str) -> dict[str, Any]:
    """Says how a command stands."""
    return described(engine.status(command_id))


REQUESTS: dict[str, Callable[..., Any]] = {
    "run": run,
    "wait": wait,
    "status": status,
    "locks": locks_held,
}

output_mutex = threading.Lock()


def answer(values: dict[str, Any]) -> None:
    """Writes a line."""
    with output_mutex:
        print(json.dumps(values), flush=True)
