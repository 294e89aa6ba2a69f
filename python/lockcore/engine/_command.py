"""Commands: a class with parameters, locks, and what to do before, during and after its tasks."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Protocol, dataclass_transform

from lockcore._types import Key, Keys, Message, Mode
from lockcore.engine._locks import scope_may_follow
from lockcore.engine._readers import Reader
from lockcore.engine._result import CommandResult
from lockcore.engine._rules import (
    UNSET,
    BoundRule,
    Declaration,
    Messages,
    Unset,
    check_fields,
    read_keys,
)
from lockcore.engine._tasks import Task

__all__ = ["Command", "CommandTypes", "LockRequest", "lock_request", "parameters_of", "type_name"]


_ITSELF: Final = "self"
"""As what functions for ids know the command itself."""


class Run(Protocol):
    """What a command sees of the engine that runs it."""

    command_id: str

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    def start_task(self, spec: tuple[Any, ...], options: Mapping[str, Any]) -> str: ...

    def run_child(self, child: Command, timeout: float | Unset | None) -> CommandResult: ...


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class Command:
    """One operation of an engine: its parameters, its locks, and what it does.

    The annotated attributes of a subclass are its parameters: they are given by name, may have
    defaults, and `dataclasses.field` works. An engine that is restarted rebuilds a command from
    its class, found by module and name, and its parameters as they were when it was run; anything
    else a command remembers in attributes is gone then. What must not be lost belongs where
    `command_id` leads to it.

    The engine takes the locks, then calls `validate`, then `execute`. If `execute` has started
    tasks, one of the end actions is called after the last one has ended, perhaps in another thread
    or after a restart. An end action may be called more than once, when it raised or when the
    engine was killed at the wrong instant: it must come to the same end each time.

    An instance is executed once; one that was refused may be run again.
    """

    __dataclass_transform__: ClassVar[dict[str, Any]]  # set by the decorator
    _locks: ClassVar[Declaration] = Declaration()
    _bound_rules: ClassVar[tuple[BoundRule, ...]] = ()
    _run: Run | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__} defines __init__: its parameters are its annotated attributes;"
                " what follows from them belongs in __post_init__"
            )
        for name in inspect.get_annotations(cls):
            if hasattr(Command, name):
                raise TypeError(f"{cls.__name__} cannot have a parameter {name!r}: it is taken")
        for name in ("validate", "execute", "end_successfully", "end_with_failure"):
            _check_method(cls, name)
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
        for base in cls.__bases__:
            cls._locks = cls._locks.merged(getattr(base, "_locks", Declaration()))
        cls._bound_rules = cls._locks.bound(_field_reader)
        if not scope_may_follow():
            _check_scope(cls)
        _known[type_name(cls)] = cls

    @classmethod
    def _declare_locks(cls, declaration: Declaration) -> None:
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        check_fields(
            declaration.rules,
            lambda name: name in names or name == _ITSELF or _is_property(getattr(cls, name, None)),
            cls.__name__,
        )
        cls._locks = declaration.merged(cls._locks)
        cls._bound_rules = cls._locks.bound(_field_reader)
        _check_scope(cls)

    @property
    def command_id(self) -> str:
        """The id of this command, which owns its locks. Survives a restart of the engine.

        Raises:
            RuntimeError: The command has not been run.
        """
        return self._active_run().command_id

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of this command in the order of their start, with what is known of each."""
        return self._active_run().tasks

    def exclusive_locks(self) -> Keys:
        """The keys to lock exclusive: keys, or a mapping of key to message.

        Overridden where `@locks` is not enough. The keys that `@locks` declares are taken in any
        case; an override says which others are.
        """
        return self._declared_keys(Mode.EXCLUSIVE)

    def shared_locks(self) -> Keys:
        """The keys to lock shared, like `exclusive_locks`."""
        return self._declared_keys(Mode.SHARED)

    def _declared_keys(self, mode: Mode) -> Messages:
        return read_keys(self._bound_rules, mode, (self,), {})

    def validate(self) -> str | Message | Iterable[str | Message] | None:
        """Returns or yields why the command must not be executed; None or nothing if it may.

        Called with the locks held, so what it finds stays true until `execute`.
        """
        return None

    def execute(self) -> None:
        """Does the work, or starts the tasks that do. Raising makes the command fail."""

    def end_successfully(self) -> None:
        """Called after the last task, if all have succeeded. Called again if it raises."""

    def end_with_failure(self) -> None:
        """Called after the last task, if one has failed or `execute` has not come to its end.

        Called again if it raises. Undoes what a task may have half done.
        """

    def start_task(self, *spec: Any, **options: Any) -> str:
        """Starts a task, which may outlive `execute` and the engine. Only while `execute` runs.

        Before the first task starts, the command and its locks are stored; before each task starts,
        its id is. When this raises, the task has not been started.

        Args:
            *spec: What the engine's task back end understands; for `ProcessTasks` one list of
                program arguments.
            **options: The same.

        Returns:
            The id of the task.
        """
        return self._active_run().start_task(spec, options)

    def run_child(
        self, command: Command, *, timeout: float | Unset | None = UNSET
    ) -> CommandResult:
        """Runs another command on behalf of this one. Only while `execute` runs.

        The child's locks have this command's owner: they never conflict with this command's own,
        and the child gives back what it took itself and nothing else. A child that has started
        tasks is like a task: this command ends after it has ended, and fails if it has failed. Of a
        child without tasks only the caller judges what a refusal or a failure means.

        Args:
            command: The child.
            timeout: How long to wait for the child's locks, as for `Engine.run`.
        """
        return self._active_run().run_child(command, timeout)

    def _active_run(self) -> Run:
        if self._run is None:
            raise RuntimeError(f"this {type(self).__name__} has not been run")
        return self._run


@dataclasses.dataclass(frozen=True, slots=True)
class LockRequest:
    """The exact locks of one command. A key is in at most one of the two."""

    exclusive: Messages
    shared: Messages


def lock_request(command: Command) -> LockRequest:
    """The locks a command wants now: those it declares and those its methods return.

    Raises:
        TypeError: A method returned a bare `str`, `bytes` or key where keys belong, or the command
            has keys and no scope.
    """
    _check_scope(type(command))
    exclusive = _with_returned(command._declared_keys(Mode.EXCLUSIVE), command.exclusive_locks())
    shared = _with_returned(command._declared_keys(Mode.SHARED), command.shared_locks())
    for key in exclusive.keys() & shared.keys():
        message = shared.pop(key)
        exclusive[key] = message if exclusive[key] is None else exclusive[key]
    return LockRequest(exclusive, shared)


def parameters_of(command: Command) -> dict[str, Any]:
    """The parameters by name, not copied."""
    fields = dataclasses.fields(command)  # type: ignore[arg-type]
    return {field.name: getattr(command, field.name) for field in fields if field.init}


def type_name(cls: type[Command]) -> str:
    """The name under which a command's class is stored: `package.module:Outer.Inner`."""
    return f"{cls.__module__}:{cls.__qualname__}"


class CommandTypes:
    """Finds command classes by their stored names.

    Args:
        given: Classes to look among first.
    """

    def __init__(self, given: Iterable[Any] = ()) -> None:
        self._given: dict[str, type[Command]] = {}
        for cls in given:
            if not (isinstance(cls, type) and issubclass(cls, Command)):
                raise TypeError(f"commands must be subclasses of Command, not {cls!r}")
            self._given[type_name(cls)] = cls

    def find(self, name: str) -> type[Command]:
        """The class of that name: a given one, one that this process has defined, or imported.

        Raises:
            LookupError: There is none; the text says why.
        """
        cls = self._given.get(name) or _known.get(name)
        if cls is not None:
            return cls
        module, _, qualname = name.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise LookupError(f"no command class {name}: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Command)):
            raise LookupError(f"no command class {name}: it is something else")
        return found


_known: weakref.WeakValueDictionary[str, type[Command]] = weakref.WeakValueDictionary()


def _check_scope(cls: type[Command]) -> None:
    if cls._locks.scope is not None:
        return
    overrides = [
        name
        for name in ("exclusive_locks", "shared_locks")
        if getattr(cls, name) is not getattr(Command, name)
    ]
    if cls._locks.rules or overrides:
        what = "declares keys" if cls._locks.rules else f"overrides {overrides[0]}"
        raise TypeError(
            f"{cls.__name__} {what} but has no scope, so they would never be locked:"
            " give @locks a scope=Scope.EXECUTION or Scope.COMMAND"
        )


def _check_method(cls: type[Command], name: str) -> None:
    method = getattr(cls, name)
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"{cls.__name__}.{name} is async: the engine would never await it")
    if name != "validate" and inspect.isgeneratorfunction(method):
        raise TypeError(f"{cls.__name__}.{name} yields: the engine would never run it")


def _field_reader(name: str) -> Reader:
    """Reads a field of a command that is the only argument."""

    def read(args: tuple[Any, ...], _: dict[str, Any]) -> Any:
        return args[0] if name == _ITSELF else getattr(args[0], name)

    return read


def _is_property(attribute: object) -> bool:
    return isinstance(attribute, property | functools.cached_property)


def _with_returned(declared: Messages, returned: Keys) -> Messages:
    if isinstance(returned, str | bytes | tuple):
        raise TypeError(f"keys must be in a list, set or mapping, not {returned!r} itself")
    if isinstance(returned, Mapping):
        pairs: Iterable[tuple[Key, str | Message | None]] = returned.items()
    else:
        pairs = ((key, None) for key in returned)
    for key, message in pairs:
        if message is not None or key not in declared:
            declared[key] = message
    return declared
