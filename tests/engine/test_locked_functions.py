"""`@locks` on functions: the keys come from the arguments of each call."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import inspect
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from lockcore import LockConflictError, LockManager
from lockcore.engine import Message, Scope, default_manager, exclusive, locks, shared


def held(manager: LockManager) -> list[tuple[object, str]]:
    return [(row.key, str(row.mode)) for row in manager.snapshot()]


def test_function_holds_its_locks_while_it_runs(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), shared("POOL", "pool"), manager=manager)
    def start(vm: str, pool: str) -> list[tuple[object, str]]:
        return held(manager)

    assert sorted(start("web", "p1")) == [(("POOL", "p1"), "shared"), (("VM", "web"), "exclusive")]
    assert len(manager) == 0


def test_function_that_raises_gives_its_locks_back(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str) -> None:
        raise OSError(vm)

    with pytest.raises(OSError, match="web"):
        start("web")
    assert len(manager) == 0


def test_function_that_is_in_the_way_of_another_is_not_called(manager: LockManager) -> None:
    called = []

    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str) -> None:
        called.append(vm)

    with manager.acquire(shared=[("VM", "web")]), pytest.raises(LockConflictError):
        start("web")
    assert called == []


@pytest.mark.parametrize(
    ("args", "kwargs", "key"),
    [
        ((1, 2), {}, 2),
        ((1,), {"vm": 3}, 3),
        ((1,), {}, "default"),
        ((), {"host": 1, "vm": 4}, 4),
    ],
)
def test_ids_are_found_by_signature(
    manager: LockManager, args: tuple[int, ...], kwargs: dict[str, int], key: object
) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(host: int, vm: object = "default", *rest: int, fast: bool = False) -> object:
        return held(manager)

    assert start(*args, **kwargs) == [(("VM", key), "exclusive")]


def test_keyword_only_argument_is_found(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(*hosts: int, vm: str = "web") -> object:
        return held(manager)

    assert start(1, 2, 3) == [(("VM", "web"), "exclusive")]


def test_method_is_locked_by_its_arguments(manager: LockManager) -> None:
    class Host:
        @locks(exclusive("VM", "vm"), manager=manager)
        def start(self, vm: str) -> object:
            return held(manager)

    assert Host().start("web") == [(("VM", "web"), "exclusive")]


def test_message_is_filled_with_arguments(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm", message=Message("STARTING", VmName="{vm}")), manager=manager)
    def start(vm: str) -> object:
        return manager.holders(("VM", vm))[0].message

    assert start("web") == Message("STARTING", VmName="web")


def test_missing_argument_is_the_functions_own_error(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(host: str, vm: str) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'vm'"):
        start("h1")  # type: ignore[call-arg]


def test_argument_that_an_inner_wrapper_adds_need_not_be_given(manager: LockManager) -> None:
    """The signature is that of the function inside, which has one more."""

    def start(session: str, vm: str) -> object:
        return session, held(manager)

    @functools.wraps(start)
    def with_session(*args: Any, **kwargs: Any) -> object:
        return start("session", *args, **kwargs)

    assert locks(exclusive("VM", "vm"), manager=manager)(with_session)(vm="web") == (
        "session",
        [(("VM", "web"), "exclusive")],
    )


def test_function_may_have_no_rules(manager: LockManager) -> None:
    @locks(manager=manager)
    def start(vm: str) -> object:
        return vm, held(manager)

    assert start("web") == ("web", [])


def test_default_is_the_very_object_of_the_function(manager: LockManager) -> None:
    default = object()

    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str, first: object = default, *, second: object = default) -> object:
        return first, second

    assert start("web") == (default, default)


def test_locks_that_somebody_ends_while_the_function_runs_are_no_error(
    manager: LockManager,
) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str) -> int:
        return manager.force_release(("VM", vm))

    assert start("web") == 1


def test_error_of_a_function_whose_locks_somebody_has_ended_is_raised(
    manager: LockManager,
) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    async def start(vm: str) -> None:
        manager.clear()
        raise OSError(vm)

    with pytest.raises(OSError, match="web"):
        asyncio.run(start("web"))


@pytest.mark.parametrize(
    "returned",
    [None, 0, True, "text", b"bytes", 1.5, [], {}, (), {1}, frozenset(), object(), LockManager],
)
def test_result_is_that_of_the_function(manager: LockManager, returned: object) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str) -> object:
        return returned

    assert start("web") is returned


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (["FIRST", "SECOND"], "FIRST"),
        ([None, "SECOND"], "SECOND"),
        (["FIRST", None], "FIRST"),
        (["{vm} is first", "SECOND"], "web is first"),
        ([None, "{other} is second"], "web is second"),
        (["{{FIRST}}", "{{FIRST}}"], "{FIRST}"),
    ],
)
def test_first_message_of_a_key_stays(
    manager: LockManager, messages: list[str | None], message: str
) -> None:
    @locks(
        exclusive("VM", "vm", message=messages[0]),
        exclusive("VM", "other", message=messages[1]),
        manager=manager,
    )
    def start(vm: str, other: str) -> object:
        return [row.message for row in manager.snapshot()]

    assert start("web", "web") == [message]


def test_variables_of_a_message_have_any_names(manager: LockManager) -> None:
    message = Message("STARTING", **{"class": "{vm}", "a name": 5, "name-2": "{{}}"})

    @locks(exclusive("VM", "vm", message=message), manager=manager)
    def start(vm: str) -> object:
        return manager.holders(("VM", vm))[0].message

    assert start("web") == Message("STARTING", **{"class": "web", "a name": 5, "name-2": "{}"})


class Name(str, enum.Enum):  # noqa: UP042 - which is the difference
    """Text whose form in a template is `Name.VM`."""

    VM = "vm"


class Code(str):
    """Text that everything but its characters says is a program."""

    __slots__ = ()

    def __str__(self) -> str:
        return "start.__globals__.clear()"

    __repr__ = __str__

    def __format__(self, form: str) -> str:
        return str(self)


@pytest.mark.parametrize("name", [Name.VM, Code("vm")])
def test_names_of_any_kind_of_text_are_their_characters(manager: LockManager, name: str) -> None:
    message = Message("STARTING", **{name: "{vm}"})

    @locks(exclusive("VM", name, message=message), manager=manager)
    def start(vm: str) -> object:
        return [(row.key, row.message) for row in manager.snapshot()]

    assert start("web") == [(("VM", "web"), Message("STARTING", vm="web"))]


def test_id_is_an_attribute_with_any_name(manager: LockManager) -> None:
    @locks(exclusive("VM", "{vm.class}"), manager=manager)
    def start(vm: object) -> object:
        return held(manager)

    assert start(type("Vm", (), {"class": "web"})) == [(("VM", "web"), "exclusive")]


@dataclasses.dataclass
class Vm:
    id: object
    name: str = "web"


@pytest.mark.parametrize("id", ["{vm.id}", lambda vm: vm.id])
def test_id_is_a_part_of_an_argument_of_whatever_type(manager: LockManager, id: Any) -> None:
    @locks(exclusive("VM", id, message="{vm.name} starts"), manager=manager)
    def start(vm: Vm) -> object:
        return [(row.key, row.message) for row in manager.snapshot()]

    number = uuid.uuid4()
    assert start(Vm(number)) == [(("VM", number), "web starts")]


def test_id_is_put_together_by_a_template(manager: LockManager) -> None:
    @locks(shared("NIC", "{host}/{nic:02}"), manager=manager)
    def plug(host: str, *, nic: int = 1) -> object:
        return held(manager)

    assert plug("h1") == [(("NIC", "h1/01"), "shared")]
    assert plug("h1", nic=2) == [(("NIC", "h1/02"), "shared")]


def test_function_for_an_id_may_have_parameters_of_its_own(manager: LockManager) -> None:
    @locks(exclusive("VM", lambda vm, prefix="vm-": prefix + vm), manager=manager)
    def start(vm: str, prefix: str = "not this one") -> object:
        return held(manager)

    assert start("1") == [(("VM", "vm-1"), "exclusive")]


def test_error_of_a_function_for_an_id_is_raised_and_nothing_is_called(
    manager: LockManager,
) -> None:
    names = {"web": 1}

    @locks(exclusive("VM", lambda vm: names[vm]), manager=manager)
    def start(vm: str) -> None:
        raise AssertionError(vm)

    with pytest.raises(KeyError):
        start("db")
    assert len(manager) == 0


def test_each_key_has_its_own_message(manager: LockManager) -> None:
    @locks(
        exclusive("VM", "vm", message="VM_STARTS"),
        exclusive("DISK", "vm"),
        shared("POOL", "pool", message="POOL_IS_USED"),
        shared("HOST", "pool", message=Message("ON", Vm="{vm}")),
        manager=manager,
    )
    def start(vm: str, pool: str) -> object:
        return {row.key[0]: row.message for row in manager.snapshot()}  # type: ignore[index]

    assert start("web", "p1") == {
        "VM": "VM_STARTS",
        "DISK": None,
        "POOL": "POOL_IS_USED",
        "HOST": Message("ON", Vm="web"),
    }


def test_positional_only_argument_is_not_found_by_name(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str = "default", /, **options: str) -> object:
        return held(manager)

    assert start(vm="another") == [(("VM", "default"), "exclusive")]


def test_missing_keyword_argument_is_an_error_and_nothing_is_called(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(*hosts: str, vm: str) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'vm'"):
        start("h1")  # type: ignore[call-arg]
    assert manager.statistics().acquired == 0


def test_argument_that_only_an_inner_wrapper_knows_is_never_left_unlocked(
    manager: LockManager,
) -> None:
    def start(vm: str) -> None:
        raise AssertionError(vm)

    @functools.wraps(start)
    def with_vm() -> None:
        start("web")

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'vm'"):
        locks(exclusive("VM", "vm"), manager=manager)(with_vm)()


def test_function_keeps_its_name_and_signature(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    def start(vm: str) -> None:
        """Starts it."""

    assert (start.__name__, start.__doc__) == ("start", "Starts it.")
    assert list(inspect.signature(start).parameters) == ["vm"]


def test_functions_without_a_manager_share_one() -> None:
    @locks(exclusive("VM", "vm"))
    def start(vm: str) -> object:
        return held(default_manager())

    @locks(exclusive("VM", "vm"))
    def stop(vm: str) -> None:
        start(vm)

    assert start("web") == [(("VM", "web"), "exclusive")]
    with pytest.raises(LockConflictError):
        stop("web")


def test_function_waits_for_its_locks_if_told_to(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager, timeout=0.01)
    def start(vm: str) -> None: ...

    with manager.acquire(shared=[("VM", "web")]), pytest.raises(TimeoutError):
        start("web")


def test_coroutine_function_holds_its_locks_until_it_returns(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    async def start(vm: str) -> object:
        await asyncio.sleep(0)
        return held(manager)

    async def main() -> object:
        starting = start("web")
        assert len(manager) == 0, "nothing is locked before it is awaited"
        return await starting

    assert asyncio.run(main()) == [(("VM", "web"), "exclusive")]
    assert len(manager) == 0
    assert inspect.iscoroutinefunction(start)


def test_coroutine_function_awaits_its_locks(manager: LockManager) -> None:
    order = []

    @locks(exclusive("VM", "vm"), manager=manager, timeout=None)
    async def start(vm: str, number: int) -> None:
        order.append(f"{number} begins")
        await asyncio.sleep(0)
        order.append(f"{number} ends")

    async def main() -> None:
        await asyncio.gather(start("web", 1), start("web", 2))

    asyncio.run(main())
    assert order == ["1 begins", "1 ends", "2 begins", "2 ends"]


def test_coroutine_function_that_is_refused_is_not_called(manager: LockManager) -> None:
    @locks(exclusive("VM", "vm"), manager=manager)
    async def start(vm: str) -> None:
        raise AssertionError(vm)

    with manager.acquire(shared=[("VM", "web")]), pytest.raises(LockConflictError):
        asyncio.run(start("web"))


def test_missing_parameter_is_refused_at_definition() -> None:
    with pytest.raises(TypeError) as caught:

        @locks(exclusive("VM", "vm_id"))
        def start(vm: str, **others: str) -> None: ...

    assert str(caught.value) == "cannot lock VM exclusive: start() has no parameter 'vm_id'"


def test_scope_command_on_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot have scope command"):

        @locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
        def start(vm: str) -> None: ...


def test_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="a generator runs after its call has returned"):

        @locks(exclusive("VM", "vm"))
        def start(vm: str) -> Iterator[str]:
            yield vm


def test_async_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="a generator runs after its call has returned"):

        @locks(exclusive("VM", "vm"))
        async def start(vm: str) -> AsyncIterator[str]:
            yield vm


async def start_later(vm: str) -> None:
    raise AssertionError(vm)


def start_step_by_step(vm: str) -> Iterator[str]:
    yield vm


async def start_step_by_step_later(vm: str) -> AsyncIterator[str]:
    yield vm


@pytest.mark.parametrize(
    "function",
    [
        start_later,
        start_step_by_step,
        start_step_by_step_later,
        contextlib.contextmanager(start_step_by_step),
        contextlib.asynccontextmanager(start_step_by_step_later),
        lambda vm: Awaitable(),
    ],
)
def test_function_that_would_run_after_its_locks_went_is_an_error(
    manager: LockManager, function: Callable[..., Any]
) -> None:
    """Behind an ordinary decorator nobody can tell before the call what it will return."""

    @locks(exclusive("VM", "vm"), manager=manager)
    @functools.wraps(start_later)
    def logged(vm: str) -> object:
        return function(vm)

    with pytest.raises(
        TypeError, match=r"start_later\(\) returned .*, which runs after its locks are gone"
    ):
        logged("web")
    assert (manager.statistics().acquired, len(manager)) == (1, 0)


class Awaitable:
    def __await__(self) -> Iterator[None]:
        raise AssertionError
