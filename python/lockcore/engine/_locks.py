"""`@locks` on command classes and on functions."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Final, NoReturn, TypeVar, cast

from lockcore._manager import LockManager
from lockcore._types import Message, Mode
from lockcore.engine._readers import Reader, argument_readers
from lockcore.engine._rules import (
    UNSET,
    BoundRule,
    Declaration,
    KeyRule,
    Scope,
    Unset,
    check_fields,
    check_timeout,
    read_keys,
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
            something to be awaited or iterated, which would run without its locks.
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
    readers = argument_readers(function)
    check_fields(declaration.rules, readers.__contains__, f"{_name(function)}()")
    rules = declaration.bound(readers.__getitem__)
    message = _common_message(rules)
    exclusive = _keys_reader(rules, Mode.EXCLUSIVE, message)
    shared = _keys_reader(rules, Mode.SHARED, message)
    timeout = 0 if declaration.timeout is UNSET else declaration.timeout
    manager = default_manager() if given is None else given
    acquire, acquire_async = manager.acquire, manager.acquire_async

    # All is resolved by now: what is left is what each call costs.

    @functools.wraps(function)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with acquire(
            exclusive=exclusive(args, kwargs) if exclusive else (),
            shared=shared(args, kwargs) if shared else (),
            message=message,
            timeout=timeout,
        ):
            returned = function(*args, **kwargs)
            if returned is not None and isinstance(returned, _UNFINISHED):
                _refuse_unfinished(function, returned)
            return returned

    @functools.wraps(function)
    async def locked_async(*args: Any, **kwargs: Any) -> Any:
        with await acquire_async(
            exclusive=exclusive(args, kwargs) if exclusive else (),
            shared=shared(args, kwargs) if shared else (),
            message=message,
            timeout=timeout,
        ):
            return await function(*args, **kwargs)

    return locked_async if inspect.iscoroutinefunction(function) else locked


_UNFINISHED: Final = (Awaitable, AsyncGenerator, Generator)


def _refuse_unfinished(function: Callable[..., Any], returned: Any) -> NoReturn:
    """Refuses what is still to run, when no lock is held any more.

    Behind another decorator a function need not look like one that is async.
    """
    if isinstance(returned, Coroutine | Generator):
        returned.close()  # or there is a warning that it was never awaited
    raise TypeError(
        f"{_name(function)}() returned {returned!r}, which runs after its locks are gone: put"
        " @locks on the async function itself, below other decorators, or lock inside it"
    )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def _common_message(rules: Sequence[BoundRule]) -> str | Message | None:
    """A message for the whole request, so that keys which have it need no mapping."""
    constant = [rule.message for rule in rules if rule.read_message is None]
    # In a mapping, None would stand for this message.
    return constant[0] if len(constant) == len(rules) and None not in constant else None


def _keys_reader(
    rules: Sequence[BoundRule], mode: Mode, common: str | Message | None
) -> Reader | None:
    """Reads the keys of one mode: a list where they have the common message, else a mapping."""
    own = [rule for rule in rules if rule.mode is mode]
    if not own:
        return None
    if any(rule.read_message or rule.message != common for rule in own):
        if len(own) > 1 or own[0].read_message:
            return lambda args, kwargs: read_keys(own, mode, args, kwargs)
        group, read_id, message = own[0].group, own[0].read_id, own[0].message
        return lambda args, kwargs: {(group, read_id(args, kwargs)): message}
    if len(own) > 1:
        readers = [(rule.group, rule.read_id) for rule in own]
        return lambda args, kwargs: [(group, read(args, kwargs)) for group, read in readers]
    group, read_id = own[0].group, own[0].read_id
    return lambda args, kwargs: [(group, read_id(args, kwargs))]
