"""Which two commands of the example may run together, and which not: all pairs, in both orders.

`NOT_TOGETHER` is written by hand, from what the original excludes, and from what it meant to:
operations on domains share the pool, what gives the master's role away has it alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from example_world import run

from lockcore.engine import Engine
from support import DEADLINE, Background, eventually
from virtualization.engine import COMMANDS

COMMANDS_BY_LABEL = {
    "attach data4": ("AttachStorageDomain", {"pool": "gold", "domain": "data4"}),
    "activate data3": ("ActivateStorageDomain", {"pool": "gold", "domain": "data3"}),
    "deactivate data2": ("DeactivateStorageDomain", {"pool": "gold", "domain": "data2"}),
    "deactivate the master": ("DeactivateStorageDomain", {"pool": "gold", "domain": "data1"}),
    "detach data3": ("DetachStorageDomain", {"pool": "gold", "domain": "data3"}),
    "remove data4": ("RemoveStorageDomain", {"pool": "gold", "domain": "data4"}),
    "switch master": (
        "SwitchMaster",
        {"pool": "gold", "old_master": "data1", "new_master": "data2"},
    ),
    "reconstruct": ("ReconstructMaster", {"pool": "gold", "new_master": "data2"}),
    "add vm new": ("AddVmFromTemplate", {"vm": "new", "template": "fedora", "domain": "data2"}),
    "add vm other": ("AddVmFromTemplate", {"vm": "other", "template": "fedora", "domain": "data1"}),
    "run web": ("RunVm", {"vm": "web", "host": "h1"}),
    "stop web": ("StopVm", {"vm": "web"}),
    "migrate web": ("MigrateVm", {"vm": "web", "host": "h2"}),
    "snapshot web": ("CreateSnapshot", {"vm": "web", "snapshot": "tuesday"}),
    "remove snapshot of web": ("RemoveSnapshot", {"vm": "web", "snapshot": "monday"}),
    "remove web": ("RemoveVm", {"vm": "web"}),
    "run db": ("RunVm", {"vm": "db", "host": "h1"}),
    "add template t1 of web": ("AddTemplate", {"template": "t1", "vm": "web", "domain": "data1"}),
    "add template t2 of web": ("AddTemplate", {"template": "t2", "vm": "web", "domain": "data2"}),
    "remove fedora": ("RemoveTemplate", {"template": "fedora"}),
    "export web": ("ExportVm", {"vm": "web"}),
    "export fedora": ("ExportTemplate", {"template": "fedora"}),
    "import old as new": ("ImportVm", {"exported": "old", "vm": "new", "domain": "data1"}),
    "import old as third": ("ImportVm", {"exported": "old", "vm": "third", "domain": "data1"}),
    "import legacy": ("ImportTemplate", {"template": "legacy", "domain": "data1"}),
    "grant ann web": ("GrantPermission", {"subject": "ann", "role": "user", "vm": "web"}),
    "revoke ann web": ("RevokePermission", {"subject": "ann", "role": "user", "vm": "web"}),
    "grant bob web": ("GrantPermission", {"subject": "bob", "role": "user", "vm": "web"}),
}

OPERATIONS_ON_DOMAINS = {
    "attach data4",
    "activate data3",
    "deactivate data2",
    "detach data3",
    "remove data4",
}
OPERATIONS_ON_THE_MASTER = {"deactivate the master", "switch master", "reconstruct"}
DISKS_ON_DATA1 = {
    "add vm new",  # reads fedora there
    "add vm other",
    "add template t1 of web",
    "remove fedora",
    "export fedora",
    "import old as new",
    "import old as third",
    "import legacy",
}
DISKS_ON_DATA2 = {
    "add vm new",
    "snapshot web",
    "remove snapshot of web",
    "remove web",
    "add template t1 of web",  # reads web there
    "add template t2 of web",
    "export web",
}
OPERATIONS_ON_WEB = {
    "run web",
    "stop web",
    "migrate web",
    "snapshot web",
    "remove snapshot of web",
    "remove web",
    "export web",
}

NOT_TOGETHER = [
    # One domain, one operation.
    ({"attach data4"}, {"remove data4"}),
    ({"activate data3"}, {"detach data3"}),
    # The pool has no master for a moment, and all else on its domains must wait.
    (OPERATIONS_ON_THE_MASTER, OPERATIONS_ON_THE_MASTER | OPERATIONS_ON_DOMAINS),
    # A domain is not taken away under a disk that is worked on.
    ({"deactivate the master", "switch master"}, DISKS_ON_DATA1),
    ({"deactivate data2", "switch master", "reconstruct"}, DISKS_ON_DATA2),
    # One VM, one operation; it is only read when templates are made of it.
    (OPERATIONS_ON_WEB, OPERATIONS_ON_WEB),
    (OPERATIONS_ON_WEB, {"add template t1 of web", "add template t2 of web"}),
    # One name, one VM.
    ({"add vm new"}, {"import old as new"}),
    # A template is not removed while it is read.
    ({"remove fedora"}, {"add vm new", "add vm other", "export fedora"}),
    # Permissions of one subject change one at a time, and not on a VM that goes.
    ({"grant ann web"}, {"revoke ann web"}),
    ({"remove web"}, {"grant ann web", "revoke ann web", "grant bob web"}),
]


def excluded_by(label: str) -> set[str]:
    """The commands that may not run together with this one, itself among them."""
    found = {label}
    for one, other in NOT_TOGETHER:
        if label in one:
            found |= other
        if label in other:
            found |= one
    return found


class Stay:
    """Keeps the first command that comes to its `execute` in there."""

    def __init__(self) -> None:
        self.is_inside, self.may_end = threading.Event(), threading.Event()

    def execute(self) -> None:
        if not self.is_inside.is_set():
            self.is_inside.set()
            assert self.may_end.wait(DEADLINE)


@pytest.fixture
def first_stays(monkeypatch: pytest.MonkeyPatch) -> Stay:
    """Leaves of all commands only their locks; the first stays in `execute`."""
    stay = Stay()
    for command in COMMANDS.values():
        monkeypatch.setattr(command, "validate", lambda self: None)
        monkeypatch.setattr(command, "execute", lambda self: stay.execute())
    return stay


@pytest.mark.parametrize("first", COMMANDS_BY_LABEL)
def test_command_excludes_those_and_no_others(
    first: str, engine: Engine, first_stays: Stay, background: Callable[..., Background]
) -> None:
    holding = background(run, engine, *COMMANDS_BY_LABEL[first])
    eventually(first_stays.is_inside.is_set)
    results = {
        label: run(engine, *COMMANDS_BY_LABEL[label], timeout=0) for label in COMMANDS_BY_LABEL
    }
    first_stays.may_end.set()
    assert holding.result().state == "succeeded"
    refused = {label for label, result in results.items() if result.state == "refused"}
    assert refused == excluded_by(first)
    assert all(results[label].blockers for label in refused)
    assert {result.state for result in results.values()} <= {"refused", "succeeded"}
