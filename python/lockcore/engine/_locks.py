"""`@locks` on command classes and on functions."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from lockcore._manager import LockManager
from lockcore._types import Mode
from lockcore.engine._rules import (
    UNSET,
    Declaration,
    KeyRule,
    Scope,
    Unset,
    check_fields,
    check_timeout,
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
        if self._declaration.scope is Scope.COMMAND:
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
        scope: How long the locks are kept. A command that declares keys must say it.
        timeout: How long to wait for the locks in seconds: 0, the default, not at all; None for
            ever.
        manager: For functions only: whose locks; None is the process's `default_manager()`.

    Raises:
        TypeError: A rule is not one, or, when it is applied, a rule names a field that is missing,
            or a command declares keys and no scope.
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
    places = _places(function)
    check_fields(declaration.rules, places.__contains__, f"{function.__name__}()")
    timeout = 0 if declaration.timeout is UNSET else declaration.timeout

    def request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """The arguments for `acquire`, or None if the call lacks an argument."""

        def value_of(name: str) -> Any:
            position, default = places[name]
            if position is not None and position < len(args):
                return args[position]
            value = kwargs.get(name, default)
            if value is inspect.Parameter.empty:
                raise LookupError(name)
            return value

        try:
            return {
                "exclusive": declaration.keys(Mode.EXCLUSIVE, value_of),
                "shared": declaration.keys(Mode.SHARED, value_of),
                "timeout": timeout,
            }
        except LookupError:
            return None

    manager = default_manager() if given is None else given

    @functools.wraps(function)
    def locked(*args: Any, **kwargs: Any) -> Any:
        wanted = request(args, kwargs)
        if wanted is None:
            return function(*args, **kwargs)  # raises: an argument is missing
        with manager.acquire(**wanted):
            return function(*args, **kwargs)

    @functools.wraps(function)
    async def locked_async(*args: Any, **kwargs: Any) -> Any:
        wanted = request(args, kwargs)
        if wanted is None:
            return await function(*args, **kwargs)
        with await manager.acquire_async(**wanted):
            return await function(*args, **kwargs)

    return locked_async if inspect.iscoroutinefunction(function) else locked


def _places(function: Callable[..., Any]) -> dict[str, tuple[int | None, Any]]:
    """For each named parameter its position, None if it has none, and its default."""
    kinds = inspect.Parameter
    return {
        name: (None if parameter.kind is kinds.KEYWORD_ONLY else position, parameter.default)
        for position, (name, parameter) in enumerate(inspect.signature(function).parameters.items())
        if parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    }
