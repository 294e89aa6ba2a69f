"""`@locks` on command classes and on functions."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Final, TypeVar, cast

from lockcore._manager import LockManager
from lockcore._types import Message, Mode
from lockcore.engine._readers import CallShape, Names
from lockcore.engine._rules import (
    UNSET,
    BoundRule,
    Declaration,
    KeyRule,
    Scope,
    Unset,
    check_fields,
    check_timeout,
    mapping_source,
)

__all__ = ["default_manager", "locks", "scope_may_follow"]

Target = TypeVar("Target", bound=Callable[..., Any])


class LocksDecorator:
    """What `locks` returns: applied to a command class it declares, to a function it wraps."""

    def __init__(self, declaration: Declaration, manager: LockManager | None) -> None:
        self._declaration = declaration
        self._manager = manager
        if declaration.scope is not None:
            _unapplied.add(self)

    def __call__(self, target: Target) -> Target:
        if isinstance(target, type):
            declare = getattr(target, "_declare_locks", None)
            if declare is None:
                raise TypeError(f"locks decorates commands and functions, not {target!r}")
            if self._manager is not None:
                raise TypeError("a command's locks are in its engine's manager: drop manager=")
            _unapplied.discard(self)
            declare(self._declaration)
            if self._declaration.scope is not None:
                _unapplied.add(self)  # it may have been kept for more classes
            return target
        scopes = {self._declaration.scope, *(rule.scope for rule in self._declaration.rules)}
        if Scope.COMMAND in scopes:
            raise TypeError("a function keeps its locks for the call: it cannot have scope command")
        return cast(Target, _guard(target, self._declaration, self._manager))


_unapplied: weakref.WeakSet[LocksDecorator] = weakref.WeakSet()


def scope_may_follow() -> bool:
    """Whether some `@locks` with a scope has been evaluated and is there to be applied.

    A decorator is evaluated before the class statement it stands on and applied after it. So a
    class that overrides `exclusive_locks` can tell, while it is being made, that nothing will give
    it a scope. Where this says yes in vain, because somebody keeps a decorator for later, the
    error comes when the command is run.
    """
    return len(_unapplied) > 0


def locks(
    *rules: KeyRule,
    scope: Scope | None = None,
    timeout: float | Unset | None = UNSET,
    manager: LockManager | None = None,
) -> LocksDecorator:
    """Declares the locks of a command class, or locks around each call of a function.

    A class also has the keys that its bases declare, and their scope and timeout where it says
    nothing itself. All keys are taken together, before `validate`.

    A function, `def` or `async def`, takes its keys from the arguments of the call, defaults
    included, and keeps them until it returns or raises. It is not called when the locks cannot be
    had: the error of `LockManager.acquire` is raised.

    Args:
        *rules: What `shared` and `exclusive` return.
        scope: How long the locks are kept. A command that declares keys must say it, here or for
            each key.
        timeout: How long to wait for the locks in seconds: 0, the default, not at all; None for
            ever.
        manager: For functions only: whose locks; None is the process's `default_manager()`.

    Raises:
        TypeError: A rule is not one, or, when it is applied, a rule names a field that is missing,
            or a command declares keys and no scope. Or, by a call, that a function has returned
            something to be awaited, iterated or entered, which would run without its locks.
        ValueError: The timeout is negative or not a number, or the scope is unknown.
    """
    for rule in rules:
        if not isinstance(rule, KeyRule):
            hint = "" if rules[1:] else "; write @locks(...) with parentheses"
            raise TypeError(f"locks takes shared(...) and exclusive(...), not {rule!r}{hint}")
    if timeout is not UNSET:
        check_timeout(timeout)
    return LocksDecorator(
        Declaration(rules, None if scope is None else Scope(scope), timeout), manager
    )


_default: Final = LockManager()


def default_manager() -> LockManager:
    """The manager of decorated functions that name none: one per process."""
    return _default


def _guard(
    function: Callable[..., Any], declaration: Declaration, given: LockManager | None
) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("a generator runs after its call has returned: lock inside it instead")
    shape = CallShape(function)
    check_fields(declaration.rules, shape.known.__contains__, f"{_name(function)}()")
    manager = default_manager() if given is None else given
    is_async = inspect.iscoroutinefunction(function)
    names, _ = shape.names, shape.names.prefix
    timeout = 0 if declaration.timeout is UNSET else declaration.timeout
    request = _request(declaration.bound(shape.place, names), timeout, names)
    names.globals |= {
        f"{_}acquire": manager.acquire_async if is_async else manager.acquire,
        f"{_}function": function,
        f"{_}type": type,
        f"{_}FINISHED": _FINISHED,
        f"{_}check": _refuse_unfinished,
    }
    # A `with` would take longer. As there, a grant that somebody else has ended is no error.
    template = _ASYNC if is_async else _SYNC
    return shape.compiled(template.format(_=_, shape=shape, request=request), function)


_SYNC: Final = """
def locked{shape.parameters}:
    {_}grant = {_}acquire({request})
    try:
        {_}returned = {_}function({shape.arguments})
        if {_}returned is not None and {_}type({_}returned) not in {_}FINISHED:
            {_}check({_}function, {_}returned)
        return {_}returned
    finally:
        {_}grant.__exit__(None, None, None)
"""

_ASYNC: Final = """
async def locked{shape.parameters}:
    {_}grant = await {_}acquire({request})
    try:
        return await {_}function({shape.arguments})
    finally:
        {_}grant.__exit__(None, None, None)
"""

_FINISHED: Final = frozenset({bool, bytes, dict, float, frozenset, int, list, set, str, tuple})
"""Types that need no closer look."""


@contextlib.contextmanager
def _managed() -> Generator[None]:
    yield


@contextlib.asynccontextmanager
async def _managed_async() -> AsyncGenerator[None]:
    yield


# The types of context managers that are generators have no public names.
_UNFINISHED: Final[tuple[type, ...]] = (
    Awaitable,
    AsyncGenerator,
    Generator,
    type(_managed()),
    type(_managed_async()),
)


def _refuse_unfinished(function: Callable[..., Any], returned: Any) -> None:
    """Refuses what is still to run, when no lock is held any more.

    Behind another decorator a function need not look like one that is async.
    """
    if not isinstance(returned, _UNFINISHED):
        return
    if isinstance(returned, Coroutine | Generator):
        returned.close()  # or there is a warning that it was never awaited
    raise TypeError(
        f"{_name(function)}() returned {returned!r}, which runs after its locks are gone: put"
        " @locks on the async function itself, below other decorators, or lock inside it"
    )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def _request(rules: Sequence[BoundRule], timeout: float | None, names: Names) -> str:
    """The arguments of `LockManager.acquire`."""
    constants = [rule.constant for rule in rules if rule.is_constant]
    # A message for the whole request, so that keys which have it need no mapping. Where a key has
    # none there is none: in a mapping, None would stand for it.
    is_common = len(constants) == len(rules) > 0 and None not in constants
    common = constants[0] if is_common else None
    arguments = [
        f"{mode}={_keys([rule for rule in rules if rule.rule.mode is mode], common, names)}"
        for mode in (Mode.EXCLUSIVE, Mode.SHARED)
        if any(rule.rule.mode is mode for rule in rules)
    ]
    if common is not None:
        arguments.append(f"message={names.name_of(common)}")
    return ", ".join([*arguments, f"timeout={names.name_of(timeout)}"])


def _keys(rules: Sequence[BoundRule], common: str | Message | None, names: Names) -> str:
    """The keys of one mode: a list where they have the common message, else a mapping."""
    if all(rule.is_constant and rule.constant == common for rule in rules):
        return f"[{', '.join(rule.key for rule in rules)}]"
    return mapping_source(rules, names)
