"""Each command of the example, from its locks to its end, with real processes on real files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cases import CASES, Case
from example_world import everything, locks_of, run, set_pause, stored

from lockcore.engine import Engine
from support import DEADLINE, Background, eventually
from virtualization import world
from virtualization.engine import COMMANDS

WITH_TASKS = [case for case in CASES if case.has_tasks]


def test_each_command_has_a_case() -> None:
    assert {case.command for case in CASES} == set(COMMANDS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_command_locks_exactly_its_keys_and_comes_true(
    case: Case, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    command_type = COMMANDS[case.command]
    execute = command_type.execute

    def watched(self: object) -> None:
        seen.append(locks_of(engine))
        execute(self)

    monkeypatch.setattr(command_type, "execute", watched)
    set_pause(3600)
    result = run(engine, case.command, case.parameters)
    assert result.state == ("running" if case.has_tasks else "succeeded")
    assert seen[0] == case.locks
    assert locks_of(engine) == (case.locks | case.of_children if case.has_tasks else set())
    set_pause(0)
    assert engine.wait(result.command_id, timeout=DEADLINE).state == "succeeded"
    assert locks_of(engine) == set()
    assert case.came_true()


@pytest.mark.parametrize("case", WITH_TASKS, ids=str)
def test_command_whose_task_is_stopped_leaves_no_trace(case: Case, engine: Engine) -> None:
    before = everything()
    set_pause(3600)
    result = run(engine, case.command, case.parameters)
    for task in engine.tasks.status():
        engine.tasks.stop(task)
    assert engine.wait(result.command_id, timeout=DEADLINE).state == "failed"
    assert locks_of(engine) == set()
    assert everything() == before


@pytest.mark.parametrize("case", WITH_TASKS, ids=str)
def test_command_goes_on_with_another_engine(case: Case, new_engine: Callable[..., Engine]) -> None:
    set_pause(3600)
    first = new_engine()
    result = run(first, case.command, case.parameters)
    before = locks_of(first)
    first.close()
    second = new_engine()
    assert result.command_id in second.recovery.resumed
    assert locks_of(second) == before
    set_pause(0)
    assert second.wait(result.command_id, timeout=DEADLINE).state == "succeeded"
    assert locks_of(second) == set()
    assert case.came_true()


def test_reconstruct_waits_for_domain_operations_and_is_not_overtaken(
    engine: Engine, background: Callable[..., Background]
) -> None:
    set_pause(3600)
    activation = run(engine, "ActivateStorageDomain", {"pool": "gold", "domain": "data3"})
    parameters = {"pool": "gold", "new_master": "data2"}
    waiting = background(run, engine, "ReconstructMaster", parameters)
    eventually(lambda: engine.manager.waiters(("POOL", "gold")))
    late = run(engine, "AttachStorageDomain", {"pool": "gold", "domain": "data4"})
    assert late.state == "refused"
    set_pause(0)
    assert engine.wait(activation.command_id, timeout=DEADLINE).state == "succeeded"
    result = waiting.result()
    assert engine.wait(result.command_id, timeout=DEADLINE).state == "succeeded"
    assert stored("pools", "gold")["master"] == "data2"


def test_import_fails_with_the_reasons_of_its_part(engine: Engine) -> None:
    set_pause(3600)
    before = everything()
    importing = run(engine, "ImportTemplate", {"template": "legacy", "domain": "data1"})
    result = run(engine, "ImportVm", {"exported": "old", "vm": "new", "domain": "data2"})
    assert (result.state, result.messages) == (
        "failed",
        ("Cannot import template. Template legacy is being created.",),
    )
    assert everything() == before
    set_pause(0)
    assert engine.wait(importing.command_id, timeout=DEADLINE).state == "succeeded"


def test_master_that_has_changed_before_the_locks_is_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = COMMANDS["DeactivateStorageDomain"](pool="gold", domain="data1")
    look = command.exclusive_locks

    def look_then_switch() -> object:
        keys = look()
        world.change("pools", "gold", master="data2")
        return keys

    monkeypatch.setattr(command, "exclusive_locks", look_then_switch)
    result = engine.run(command)
    assert [message.code for message in result.messages] == ["MASTER_HAS_CHANGED"]


def test_last_active_domain_stays(engine: Engine) -> None:
    world.change("domains", "data2", status="maintenance")
    result = run(engine, "DeactivateStorageDomain", {"pool": "gold", "domain": "data1"})
    assert [message.code for message in result.messages] == ["NO_OTHER_MASTER"]


@pytest.mark.parametrize(
    ("command", "parameters", "codes"),
    [
        ("RunVm", {"vm": "no", "host": "no"}, ["NO_SUCH_ENTITY", "NO_SUCH_ENTITY"]),
        ("RunVm", {"vm": "db", "host": "h1"}, ["WRONG_STATUS"]),
        ("MigrateVm", {"vm": "db", "host": "h1"}, ["VM_IS_ON_HOST"]),
        ("CreateSnapshot", {"vm": "web", "snapshot": "monday"}, ["NAME_IS_TAKEN"]),
        ("RemoveSnapshot", {"vm": "web", "snapshot": "no"}, ["NO_SUCH_ENTITY"]),
        ("AddTemplate", {"template": "new", "vm": "db", "domain": "data1"}, ["WRONG_STATUS"]),
        ("RemoveTemplate", {"template": "no"}, ["NO_SUCH_ENTITY"]),
        (
            "AddVmFromTemplate",
            {"vm": "web", "template": "no", "domain": "data3"},
            ["NAME_IS_TAKEN", "NO_SUCH_ENTITY", "WRONG_STATUS"],
        ),
        ("ActivateStorageDomain", {"pool": "gold", "domain": "data2"}, ["WRONG_STATUS"]),
        (
            "SwitchMaster",
            {"pool": "gold", "old_master": "data2", "new_master": "data2"},
            ["MASTER_HAS_CHANGED", "WRONG_STATUS"],
        ),
        (
            "GrantPermission",
            {"subject": "ann", "role": "operator", "vm": "db"},
            ["PERMISSION_IS_GRANTED"],
        ),
        (
            "RevokePermission",
            {"subject": "ann", "role": "operator", "vm": "web"},
            ["PERMISSION_IS_NOT_GRANTED"],
        ),
    ],
)
def test_command_that_makes_no_sense_is_refused(
    engine: Engine, command: str, parameters: dict[str, str], codes: list[str]
) -> None:
    before = everything()
    result = run(engine, command, parameters)
    assert (result.state, [message.code for message in result.messages]) == ("refused", codes)
    assert not result.blockers
    assert everything() == before


@pytest.mark.parametrize("name", ["", "../web", "a/b", ".hidden", "web.json", "a" * 64, "wéb"])
def test_parameter_that_could_leave_the_directory_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="parameter vm must be a name"):
        COMMANDS["StopVm"](vm=name)
