"""The engine behind HTTP, for anybody who can send JSON. Needs Starlette and uvicorn.

    POST /commands/{name}     runs a command; the body has its parameters
    GET  /commands/{id}       how it stands: state, progress, why it has failed
    GET  /locks               who holds what, and who waits

A command that runs, or has run, is answered with 202 and its id. One that is refused is answered
with 409 and all reasons: every key in the way with its holder, for how long, and a sentence in the
language that the client asks for. 404 is for what does not exist, 422 for parameters that no
command takes, 503 while no engine is open.

`?timeout=` says how many seconds a command may wait for its locks, instead of what it declares, and
`?wait=` how many seconds the answer may wait for the command's end. The header `X-Correlation-ID`
comes back in the answer, and is in the log of everything that the request has led to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lockcore.engine import (
    CommandResult,
    CommandState,
    Engine,
    EngineError,
    UnknownCommandError,
)
from virtualization.base import EntityCommand
from virtualization.engine import COMMANDS, described, locks_held, make_engine

log = logging.getLogger("virtualization.http")

LONGEST_WAIT = 60.0
"""Seconds after which a request is answered in any case."""

LOOK_INTERVAL = 0.05

RETRY_LATER = {"Retry-After": "1"}

T = TypeVar("T")

CORRELATION_ID = re.compile(r"[\x21-\x7e]{1,128}")


def serve(*, host: str, port: int, grace: int, drain: float) -> None:
    """Serves the data centre in the working directory until SIGTERM or SIGINT.

    Then it takes no more requests, lets those under way come to their end, and closes the engine.
    Tasks go on, and the next start takes their commands up again.

    Args:
        host: The address to listen at.
        port: 0 is any that is free; the first line of output says which.
        grace: How many seconds to wait at the end for requests under way.
        drain: How many seconds to wait at the end for commands under way.
    """
    handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)s %(name)s [%(correlation_id)s] %(message)s"
    handler.setFormatter(logging.Formatter(form, defaults={"correlation_id": "-"}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    app = make_app(make_engine(), drain=drain)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=grace)
    with socket.create_server((host, port)) as listener:
        print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def make_app(engine: Engine, *, drain: float = 0.0) -> Starlette:
    """An application on an engine that it opens and closes itself."""
    loop = EngineLoop()
    front = Front(engine, loop)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(engine.open)  # recovers; requests are served after that
        for line in str(engine.recovery).splitlines():
            log.info("recovery: %s", line)
        loop.start()
        try:
            yield
        finally:
            await asyncio.to_thread(engine.close, drain=drain > 0, timeout=drain)
            await asyncio.to_thread(loop.close)

    return Starlette(
        routes=[
            Route("/commands/{name}", front.run, methods=["POST"]),
            Route("/commands/{id}", front.status, methods=["GET"]),
            Route("/locks", front.locks, methods=["GET"]),
        ],
        lifespan=lifespan,
        exception_handlers={
            HTTPException: told,
            EngineError: unavailable,
            UnknownCommandError: unknown,
        },
    )


class EngineLoop:
    """An event loop in a thread of its own, in which commands are run.

    What `execute` does to files, and the commit before a task starts, take milliseconds, for which
    the loop that serves clients would stand still. In a loop, rather than in a pool of threads, any
    number of commands can wait for their locks.
    """

    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread

    def start(self) -> None:
        """Begins to run what comes."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs it there and awaits it here. Cancelling it here cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """Ends the thread. There must be no work left."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Front:
    """What is done for each request. Nothing here blocks the event loop that serves clients."""

    def __init__(self, engine: Engine, loop: EngineLoop) -> None:
        self._engine = engine
        self._loop = loop

    async def run(self, request: Request) -> Response:
        """Runs a command."""
        name = request.path_params["name"]
        if name not in COMMANDS:
            raise HTTPException(404, f"no command {name}")
        command = made(COMMANDS[name], await body_of(request))
        correlation_id = correlation_id_of(request)
        timeout, wait = seconds(request, "timeout"), seconds(request, "wait")
        options = {} if timeout is None else {"timeout": timeout}
        work = self._engine.run_async(command, correlation_id=correlation_id, **options)
        result = await until_cancelled(self._loop.run(work))
        extra = {"correlation_id": correlation_id}
        log.info("%s %s: %s", name, result.command_id, result.state, extra=extra)
        if wait is not None and result.state is CommandState.RUNNING:
            result = await self._ended(result.command_id, wait)
        is_refused = result.state is CommandState.REFUSED
        return answer(request, result, 409 if is_refused else 202, name)

    async def status(self, request: Request) -> Response:
        """Says how a command stands."""
        wait = seconds(request, "wait") or 0.0
        return answer(request, await self._ended(request.path_params["id"], wait), 200)

    async def locks(self, _: Request) -> Response:
        """Says who holds what."""
        return JSONResponse({"locks": await asyncio.to_thread(locks_held, self._engine)})

    async def _ended(self, command_id: str, wait: float) -> CommandResult:
        """How a command stands when it has ended, or the time is up."""
        deadline = time.monotonic() + wait
        while True:
            # In a thread: what has ended long ago is looked up in the store.
            result = await asyncio.to_thread(self._engine.status, command_id)
            left = deadline - time.monotonic()
            if result.state is not CommandState.RUNNING or left <= 0:
                return result
            await until_cancelled(asyncio.sleep(min(LOOK_INTERVAL, left)))


async def until_cancelled(waiting: Awaitable[T]) -> T:
    """Waits, and tells the client if the server will not wait any longer because it goes down."""
    try:
        return await waiting
    except asyncio.CancelledError:
        raise HTTPException(503, "the server is going down", headers=RETRY_LATER) from None


def answer(
    request: Request, result: CommandResult, status: int, name: str | None = None
) -> Response:
    """How a command stands, in the client's language."""
    headers = {"Location": f"/commands/{result.command_id}"}
    if result.correlation_id is not None:
        headers["X-Correlation-ID"] = result.correlation_id
    return JSONResponse(described(result, name, locale_of(request)), status, headers=headers)


def made(command: type[EntityCommand], parameters: dict[str, Any]) -> EntityCommand:
    """A command from what a client has sent."""
    try:
        return command(**parameters)
    except (TypeError, ValueError) as error:  # missing, unknown, of the wrong type, or no name
        raise HTTPException(422, str(error)) from None


async def body_of(request: Request) -> dict[str, Any]:
    """The parameters in the body of a request."""
    try:
        body = await request.json()
    except ValueError as error:
        raise HTTPException(422, f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise HTTPException(422, "the body must be a JSON object of parameters")
    return body


def seconds(request: Request, name: str) -> float | None:
    """A number of seconds in the query, within limits; None if there is none."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise HTTPException(422, f"{name} must be a number of seconds, not {text!r}")
    return min(value, LONGEST_WAIT)


def correlation_id_of(request: Request) -> str:
    """What the client calls its request, or a new name for it."""
    given = request.headers.get("X-Correlation-ID")
    if given is None:
        return str(uuid.uuid4())
    if not CORRELATION_ID.fullmatch(given):
        raise HTTPException(422, "X-Correlation-ID must be at most 128 printable characters")
    return given


def locale_of(request: Request) -> str | None:
    """The language that the client names first."""
    first = request.headers.get("Accept-Language", "").partition(",")[0].partition(";")[0].strip()
    return first if re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", first) else None


async def told(_: Request, error: Exception) -> Response:
    """What is wrong with a request."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def unavailable(_: Request, error: Exception) -> Response:
    """The engine is closing, or its store is gone; another one will be there soon."""
    return JSONResponse({"error": str(error)}, 503, headers=RETRY_LATER)


async def unknown(_: Request, error: Exception) -> Response:
    """There is no such command."""
    return JSONResponse({"error": str(error)}, 404)
