"""Commands: a class with parameters, locks, and what to do before, during and after its tasks."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import keyword
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final, Protocol, dataclass_transform

from lockcore._types import Key, Keys, Message, Mode
from lockcore.engine._locks import scope_may_follow
from lockcore.engine._parameters import annotated_names, check_parameters, parameter_types
from lockcore.engine._result import CommandResult
from lockcore.engine._rules import (
    UNSET,
    Declaration,
    FieldKeys,
    Messages,
    Scope,
    Unset,
    check_fields,
)
from lockcore.engine._tasks import Task

__all__ = [
    "Command",
    "CommandTypes",
    "LockRequest",
    "class_name",
    "command_name",
    "lock_requests",
    "parameters_of",
    "type_name",
]


Reasons = str | Message | Iterable[str | Message] | None

_ITSELF: Final = "self"
"""As what functions for ids know the command itself."""


class Run(Protocol):
    """What a command sees of the engine that runs it."""

    command_id: str
    correlation_id: str | None

    @property
    def tasks(self) -> tuple[Task, ...]: ...

    def start_task(self, spec: tuple[Any, ...], options: Mapping[str, Any]) -> str: ...

    def transaction(self) -> AbstractContextManager[Any]: ...

    def run_child(self, child: Command, timeout: float | Unset | None) -> CommandResult: ...

    async def run_child_async(
        self, child: Command, timeout: float | Unset | None
    ) -> CommandResult: ...


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class Command:
    """One operation of an engine: its parameters, its locks, and what it does.

    The annotated attributes of a subclass are its parameters: they are given by name, may have
    defaults, and `dataclasses.field` works. A value that is not of its annotated type is a
    TypeError; what else must hold is for `__post_init__` to check, or to put right.

    An engine that is restarted rebuilds a command from its class, found by module and name, and its
    parameters as they were when it was run; anything else a command remembers in attributes is gone
    then. What must not be lost belongs where `command_id` leads to it.

    The engine takes the locks, then calls `validate`, then `execute`. Any of the methods to
    override may be `async def`. One whose `validate` or `execute` is needs `Engine.run_async`; its
    end actions run in an event loop of their own, as they do after a restart.

    If `execute` has started tasks, one of the end actions is called after the last one has ended,
    perhaps in another thread or after a restart. An end action may be called more than once, when
    it raised or when the engine was killed at the wrong instant: it must come to the same end each
    time.

    An instance is executed once; one that was refused may be run again.
    """

    __dataclass_transform__: ClassVar[dict[str, Any]]  # set by the decorator
    _locks: ClassVar[Declaration] = Declaration()
    _declared: ClassVar[FieldKeys] = _locks.compiled(str)
    _declared_long: ClassVar[FieldKeys] = _declared
    _run: Run | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__} defines __init__: its parameters are its annotated attributes;"
                " what follows from them belongs in __post_init__"
            )
        for name in annotated_names(cls):
            if hasattr(Command, name):
                raise TypeError(f"{cls.__name__} cannot have a parameter {name!r}: it is taken")
        for name in ("validate", "execute", "compensate", "end_successfully", "end_with_failure"):
            _check_method(cls, name)
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
        _check_kept(cls)
        cls.__init__ = _checking_types(cls, cls.__init__)  # type: ignore[method-assign]
        for base in cls.__bases__:
            cls._locks = cls._locks.merged(getattr(base, "_locks", Declaration()))
        cls._compile_locks()
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
        cls._compile_locks()
        _check_scope(cls)

    @classmethod
    def _compile_locks(cls) -> None:
        cls._declared = cls._locks.compiled(_field)
        cls._declared_long = cls._locks.compiled(_field, Scope.COMMAND)

    @property
    def command_id(self) -> str:
        """The id of this command, which owns its locks. Survives a restart of the engine.

        Raises:
            RuntimeError: The command has not been run.
        """
        return self._active_run().command_id

    @property
    def correlation_id(self) -> str | None:
        """What `Engine.run` was given for it, or its parent was. Survives a restart."""
        return self._active_run().correlation_id

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
        return self._declared[mode](self)

    def validate(self) -> Reasons | Awaitable[Reasons] | AsyncIterator[str | Message]:
        """Returns or yields why the command must not be executed; None or nothing if it may.

        Called with the locks held, so what it finds stays true until `execute`.
        """
        return None

    def execute(self) -> Awaitable[None] | None:
        """Does the work, or starts the tasks that do. Raising makes the command fail."""
        return None

    def compensate(self) -> Awaitable[None] | None:
        """Undoes what `execute` may have done, when it has raised or a task has failed.

        Called after the last task and before `end_with_failure`, with the locks held that have not
        gone with `execute`. A command that overrides this is stored before `execute` is called, so
        that it is compensated even if the engine is killed in `execute`. Called again if it or
        `end_with_failure` raises, or the engine is killed: it must not mind what has not been done
        yet or has been undone already.
        """
        return None

    def end_successfully(self) -> Awaitable[None] | None:
        """Called after the last task, if all have succeeded. Called again if it raises."""
        return None

    def end_with_failure(self) -> Awaitable[None] | None:
        """Called after the last task, if one has failed or `execute` has not come to its end.

        Called again if it raises. Undoes what a task may have half done.
        """
        return None

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

    def transaction(self) -> AbstractContextManager[Any]:
        """A transaction in the database of the store, for data of your own.

        `with self.transaction() as connection:` gives a `sqlalchemy.Connection`, or for a store
        `"sqlite:///..."` its `sqlite3.Connection`. Do not commit, and do not await inside.

        In `execute` it is committed at the end of the block, together with the rows of the tasks
        that were begun inside, which are only then handed to the back end. If the block raises, all
        of it is rolled back, and none of these tasks starts. Once it is committed an end action is
        due, even if no task could be started.

        In `compensate` and the end actions it is committed when the end action has returned,
        together with the outcome of the command: what is written is written exactly once, however
        often the action is called. If a block raises, all that they wrote is rolled back.

        Raises:
            RuntimeError: Neither `execute` nor an end action runs, or a transaction is open here.
            StoreError: The database cannot be used.
        """
        return self._active_run().transaction()

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

    async def run_child_async(
        self, command: Command, *, timeout: float | Unset | None = UNSET
    ) -> CommandResult:
        """Awaits a child, async or not, like `run_child`. Only while `execute` runs."""
        return await self._active_run().run_child_async(command, timeout)

    def _active_run(self) -> Run:
        if self._run is None:
            raise RuntimeError(f"this {type(self).__name__} has not been run")
        return self._run


@dataclasses.dataclass(frozen=True, slots=True)
class LockRequest:
    """The exact locks of one command. A key is in at most one of the two."""

    exclusive: Messages
    shared: Messages

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.exclusive or self.shared)


def lock_requests(command: Command) -> tuple[LockRequest, LockRequest]:
    """The locks a command wants now, and those of them that outlast its execution.

    They are those it declares and those its methods return.

    Raises:
        TypeError: A method returned a bare `str`, `bytes` or key where keys belong, or the command
            has keys and no scope.
    """
    _check_scope(type(command))
    exclusive, long_exclusive = _keys(command, Mode.EXCLUSIVE, command.exclusive_locks())
    shared, long_shared = _keys(command, Mode.SHARED, command.shared_locks())
    return _one_mode_each(exclusive, shared), _one_mode_each(long_exclusive, long_shared)


def parameters_of(command: Command) -> dict[str, Any]:
    """The parameters by name, not copied."""
    fields = dataclasses.fields(command)  # type: ignore[arg-type]
    return {field.name: getattr(command, field.name) for field in fields if field.init}


def type_name(cls: type[Command]) -> str:
    """The name under which a command's class is stored: `package.module:Outer.Inner`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_name(stored: str) -> str:
    """The name of a class alone, of the one under which it is stored."""
    return stored.rpartition(":")[2].rpartition(".")[2]


def command_name(cls: str, command_id: str, correlation_id: str | None) -> str:
    """What a command is called in logs and messages."""
    correlation = "" if correlation_id is None else f" ({correlation_id})"
    return f"{cls} {command_id}{correlation}"


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
    unscoped = [rule for rule in cls._locks.rules if rule.scope is None]
    overrides = [
        name
        for name in ("exclusive_locks", "shared_locks")
        if getattr(cls, name) is not getattr(Command, name)
    ]
    if unscoped or overrides:
        what = "declares keys" if unscoped else f"overrides {overrides[0]}"
        raise TypeError(
            f"{cls.__name__} {what} but has no scope, so they would never be locked:"
            " give @locks a scope=Scope.EXECUTION or Scope.COMMAND"
        )


def _check_kept(cls: type[Command]) -> None:
    """Refuses parameters that are not kept, without which the command could not be rebuilt."""
    kept = {field.name for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    code = vars(cls)["__init__"].__code__  # a signature would evaluate the annotations
    lost = {*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]} - kept - {"self"}
    if lost:
        names = ", ".join(sorted(lost))
        raise TypeError(f"{cls.__name__} has an InitVar, which would be lost: {names}")


def _check_method(cls: type[Command], name: str) -> None:
    method = getattr(cls, name)
    yields = inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
    if yields and name != "validate":
        raise TypeError(f"{cls.__name__}.{name} yields: the engine would never run it")


def _checking_types(cls: type[Command], init: Callable[..., None]) -> Callable[..., None]:
    """`__init__`, then a look whether the parameters are of their types."""
    hints: dict[str, Any] | None = None

    @functools.wraps(init)
    def checked(self: Command, *args: Any, **kwargs: Any) -> None:
        nonlocal hints
        init(self, *args, **kwargs)
        if hints is None:  # not earlier: by now the names in annotations are defined
            hints = parameter_types(cls)
        check_parameters(vars(self), hints, cls.__name__)

    return checked


def _field(name: str) -> str:
    if name == _ITSELF:
        return "self"
    if keyword.iskeyword(name) or not name.isascii():  # the compiler spells some letters anew
        return f"getattr(self, {name!r})"
    return f"self.{name}"


def _is_property(attribute: object) -> bool:
    return isinstance(attribute, property | functools.cached_property)


def _keys(command: Command, mode: Mode, returned: Keys) -> tuple[Messages, Messages]:
    """All keys of one mode, and those that outlast the execution."""
    declared = command._declared_keys(mode)
    wanted = _with_returned(dict(declared), returned)
    scope = command._locks.scope
    is_long = scope is Scope.COMMAND
    long = command._declared_long[mode](command)
    return wanted, {
        key: message
        for key, message in wanted.items()
        if key in long or (is_long and key not in declared)
    }


def _one_mode_each(exclusive: Messages, shared: Messages) -> LockRequest:
    for key in exclusive.keys() & shared.keys():
        message = shared.pop(key)
        exclusive[key] = message if exclusive[key] is None else exclusive[key]
    return LockRequest(exclusive, shared)


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
