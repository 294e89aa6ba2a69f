"""What may be written in a command class, and what is refused when it is defined."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest

from lockcore.engine import Command, Message, Scope, exclusive, locks, shared


class Greet(Command):
    name: str
    greeting: str = "hello"
    tags: list[str] = dataclasses.field(default_factory=list)
    kind: ClassVar[str] = "social"


def test_parameters_are_given_by_name() -> None:
    command = Greet(name="ann", greeting="hi")
    assert (command.name, command.greeting) == ("ann", "hi")


def test_parameter_has_its_default() -> None:
    assert Greet(name="ann").greeting == "hello"


def test_default_factory_makes_a_value_for_each_command() -> None:
    assert Greet(name="ann").tags is not Greet(name="bob").tags


def test_missing_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'name'"):
        Greet()  # type: ignore[call-arg]


def test_unknown_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nmae'"):
        Greet(name="ann", nmae="bob")  # type: ignore[call-arg]


def test_positional_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="positional"):
        Greet("ann")  # type: ignore[misc]


def test_subclass_has_the_parameters_of_its_base() -> None:
    class GreetLoudly(Greet):
        volume: int = 11

    command = GreetLoudly(name="ann")
    assert (command.name, command.volume) == ("ann", 11)


def test_annotation_that_names_a_missing_parameter_is_refused() -> None:
    with pytest.raises(TypeError) as caught:

        @locks(exclusive("VM", "vm_id"), scope=Scope.COMMAND)
        class Stop(Command):
            vm: str

    assert str(caught.value) == "cannot lock VM exclusive: Stop has no parameter 'vm_id'"


def test_message_that_names_a_missing_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="Stop has no parameter 'vm_name'"):

        @locks(
            exclusive("VM", "vm", message=Message("BUSY", VmName="{vm_name}")), scope=Scope.COMMAND
        )
        class Stop(Command):
            vm: str


def test_annotation_may_name_a_property() -> None:
    @locks(exclusive("POOL", "pool"), scope=Scope.COMMAND)
    class Stop(Command):
        vm: str

        @property
        def pool(self) -> str:
            return self.vm.partition("-")[0]

    assert Stop(vm="p1-web").exclusive_locks() == {("POOL", "p1"): None}


@pytest.mark.parametrize("name", ["class", "ﬁle"])
def test_property_may_have_a_name_that_is_not_written_in_source(name: str) -> None:
    attributes = {name: property(lambda _: "web")}
    kind = locks(exclusive("VM", name), exclusive("DISK", f"{{{name}}}"), scope=Scope.EXECUTION)(
        type("Start", (Command,), attributes)
    )
    assert kind().exclusive_locks() == {("VM", "web"): None, ("DISK", "web"): None}


def test_names_of_any_kind_of_text_are_their_characters() -> None:
    class Name(str, enum.Enum):  # noqa: UP042 - whose form in a template is `Name.VM`
        VM = "vm"

    @locks(
        exclusive("VM", Name.VM, message=Message("STARTING", **{Name.VM: "{vm}"})),
        scope=Scope.EXECUTION,
    )
    class Start(Command):
        vm: str

    assert Start(vm="web").exclusive_locks() == {("VM", "web"): Message("STARTING", vm="web")}


def test_keys_without_a_scope_are_refused() -> None:
    with pytest.raises(TypeError) as caught:

        @locks(exclusive("VM", "vm"))
        class Stop(Command):
            vm: str

    assert "Stop declares keys but has no scope, so they would never be locked" in str(caught.value)


@pytest.mark.parametrize("method", ["exclusive_locks", "shared_locks"])
def test_overridden_keys_without_a_scope_are_refused(method: str) -> None:
    with pytest.raises(TypeError, match=f"overrides {method} but has no scope"):
        type("Stop", (Command,), {method: lambda self: ["vm-1"]})


def test_overridden_keys_with_a_scope_are_accepted() -> None:
    @locks(scope=Scope.EXECUTION)
    class Stop(Command):
        def exclusive_locks(self) -> list[str]:
            return ["vm-1"]

    assert Stop().exclusive_locks() == ["vm-1"]


def test_overridden_keys_in_a_mixin_without_a_scope_are_refused() -> None:
    class Keys:
        def exclusive_locks(self) -> list[str]:
            return ["vm-1"]

    with pytest.raises(TypeError, match="overrides exclusive_locks but has no scope"):

        class Stop(Keys, Command):  # type: ignore[misc]
            pass


def test_subclass_has_the_keys_and_the_scope_of_its_base() -> None:
    @locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
    class Stop(Command):
        vm: str

    @locks(shared("HOST", "host"))
    class StopOnHost(Stop):
        host: str

    command = StopOnHost(vm="v", host="h")
    assert command.exclusive_locks() == {("VM", "v"): None}
    assert command.shared_locks() == {("HOST", "h"): None}


def test_class_has_the_keys_of_all_its_bases() -> None:
    @locks(exclusive("VM", "vm"), scope=Scope.EXECUTION)
    class OnVm(Command):
        vm: str

    @locks(exclusive("DISK", "disk"), scope=Scope.COMMAND)
    class OnDisk(Command):
        disk: str

    class Attach(OnVm, OnDisk):
        pass

    keys = Attach(vm="v", disk="d").exclusive_locks()
    assert set(keys) == {("VM", "v"), ("DISK", "d")}


def test_message_places_are_filled_with_parameters() -> None:
    @locks(
        exclusive("VM", "vm", message="{vm} is on {host}"),
        shared("HOST", "host", message=Message("USED", VmName="{vm}", count=3)),
        scope=Scope.COMMAND,
    )
    class Migrate(Command):
        vm: str
        host: str

    command = Migrate(vm="web", host="h1")
    assert command.exclusive_locks() == {("VM", "web"): "web is on h1"}
    assert command.shared_locks() == {("HOST", "h1"): Message("USED", VmName="web", count=3)}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("{", ValueError),
        ("{}", TypeError),
        ("{vm[0]}", TypeError),
        ("{vm.}", TypeError),
        ("{vm:{width}}", TypeError),
        (b"busy", TypeError),
    ],
)
def test_message_that_cannot_be_filled_is_refused(message: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        exclusive("VM", "vm", message=message)  # type: ignore[arg-type]


@pytest.mark.parametrize("id", ["vm-1", "", "vm.id", 7])
def test_id_that_is_no_name_is_refused(id: object) -> None:
    with pytest.raises(TypeError, match="the id of a key must be the name of a parameter"):
        exclusive("VM", id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("id", "error", "text"),
    [
        ("{vm", ValueError, "cannot read '{vm': expected '}'"),
        ("{vm[0]}", TypeError, "has a place {vm[0]} that names no parameter"),
        (lambda vm, /: vm, TypeError, "does not name what it reads: wrap it in a lambda"),
        (min, TypeError, "cannot tell what <built-in function min> reads: wrap it in a lambda"),
    ],
)
def test_id_that_cannot_be_read_is_refused(id: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        exclusive("VM", id)


def test_template_and_function_ids_are_read_from_parameters() -> None:
    @locks(
        exclusive("VM", "{vm.real}", message="{vm.real} is moved"),
        shared("NIC", "{host}/{nic:02}"),
        shared("RACK", lambda host, nic: f"{host}-{nic}"),
        shared("ITSELF", lambda self: self.host),
        scope=Scope.COMMAND,
    )
    class Move(Command):
        vm: int
        host: str
        nic: int = 1

    command = Move(vm=7, host="h1")
    assert command.exclusive_locks() == {("VM", 7): "7 is moved"}
    assert list(command.shared_locks()) == [("NIC", "h1/01"), ("RACK", "h1-1"), ("ITSELF", "h1")]


@pytest.mark.parametrize("id", ["{host.id}", lambda host: host])
def test_template_or_function_that_names_a_missing_parameter_is_refused(id: Any) -> None:
    with pytest.raises(TypeError, match="cannot lock VM exclusive: Stop has no parameter 'host'"):

        @locks(exclusive("VM", id), scope=Scope.COMMAND)
        class Stop(Command):
            vm: str


def test_group_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="the group of a key must be str, not int"):
        shared(7, "vm")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_impossible_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must not be negative or NaN"):
        locks(scope=Scope.COMMAND, timeout=timeout)


@pytest.mark.parametrize("timeout", ["5", True])
def test_timeout_that_is_no_number_is_refused(timeout: object) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
        locks(scope=Scope.COMMAND, timeout=timeout)  # type: ignore[arg-type]


def test_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="'forever' is not a valid Scope"):
        locks(scope="forever")  # type: ignore[arg-type]


def test_locks_without_parentheses_is_refused() -> None:
    with pytest.raises(TypeError, match="with parentheses"):

        @locks  # type: ignore[arg-type]
        class Stop(Command):
            pass


def test_locks_on_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match="locks decorates commands and functions"):

        @locks(exclusive("VM", "vm"), scope=Scope.COMMAND)
        class Stop:
            vm: str


def test_manager_on_a_class_is_refused() -> None:
    with pytest.raises(TypeError, match="drop manager="):

        @locks(scope=Scope.COMMAND, manager=object())  # type: ignore[arg-type]
        class Stop(Command):
            pass


def test_own_init_is_refused() -> None:
    with pytest.raises(TypeError, match="Stop defines __init__"):

        class Stop(Command):
            def __init__(self) -> None:
                pass


def test_parameter_with_a_name_of_commands_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot have a parameter 'tasks': it is taken"):

        class Stop(Command):
            tasks: str  # type: ignore[assignment]


@pytest.mark.parametrize("method", ["execute", "compensate", "end_with_failure"])
def test_async_method_that_yields_is_refused(method: str) -> None:
    async def yields(self: Command) -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match=f"{method} yields: the engine would never run it"):
        type("Stop", (Command,), {method: yields})


def test_execute_that_yields_is_refused() -> None:
    with pytest.raises(TypeError, match="execute yields"):

        class Stop(Command):
            def execute(self) -> Iterator[None]:  # type: ignore[override]
                yield
