"""The demo's engine process: `python -m lockcore._demo._engine DIRECTORY`.

It reads a request per line from standard input and answers each with a line, both JSON. It ends
when its standard input does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from lockcore._demo import _commands
from lockcore.engine import CommandResult, Engine, ProcessTasks

STORE = "sqlite:///engine.db"
TASKS = "tasks"


def main(directory: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    os.chdir(directory)
    with Engine(store=STORE, tasks=ProcessTasks(TASKS)) as engine:
        report = engine.recovery
        answer(resumed=report.resumed, ended=report.ended, cleaned=report.cleaned, text=str(report))
        for line in sys.stdin:
            request = json.loads(line)
            answer(**REQUESTS[request.pop("request")](engine, **request))


def run(engine: Engine, command: str, **parameters: Any) -> dict[str, Any]:
    cls = getattr(_commands, command)
    result = engine.run(cls(**parameters))
    return described(result, action=cls.action, type=cls.type)


def wait(engine: Engine, command_id: str, timeout: float) -> dict[str, Any]:
    return described(engine.wait(command_id, timeout=timeout))


def locks(engine: Engine) -> dict[str, Any]:
    return {
        "locks": [
            {"key": row.key, "mode": row.mode, "owner": row.owner}
            for row in engine.manager.snapshot()
        ]
    }


def progress(engine: Engine, command_id: str) -> dict[str, Any]:
    return {"progress": engine.status(command_id).progress}


REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "run": run,
    "wait": wait,
    "locks": locks,
    "progress": progress,
}


def described(result: CommandResult, **variables: str) -> dict[str, Any]:
    return {
        "command_id": result.command_id,
        "state": result.state,
        "reasons": result.explain(_commands.CATALOG, **variables),
    }


def answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
