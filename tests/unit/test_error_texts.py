"""The errors: what they carry, how they travel, and the full text of each."""

from __future__ import annotations

import copy
import json
import pickle
import uuid

import pytest

from lockcore._errors import (
    DeadlockError,
    LockConflictError,
    LockError,
    LockTimeoutError,
    ManagerClosedError,
    NotHeldError,
)
from lockcore._messages import Message, MessageCatalog
from lockcore._types import Holder, Mode, Request, Waiter

VM = ("VM", "42")
POOL = ("POOL", uuid.UUID(int=7))
REQUEST = Request(frozenset({VM}), frozenset({POOL}), "RemoveVm 11aa")
MIGRATION = Holder(VM, Mode.SHARED, "MigrateVm 7f3a", None, 3, 12.7)
BACKUP = Holder(VM, Mode.SHARED, "BackupVm 90bc", Message("BACKUP", VmName="db"), 5, 0.25)
MAINTENANCE = Holder(POOL, Mode.EXCLUSIVE, 17, "in maintenance", 4, 184.0)
EARLIER = Waiter(VM, Mode.EXCLUSIVE, None, Message("RENAME", VmName="web"), 2.0)

ERRORS = [
    LockError("anything"),
    LockConflictError(REQUEST, [MIGRATION, EARLIER]),
    LockTimeoutError(REQUEST, [BACKUP], 2.5),
    DeadlockError(REQUEST, [(EARLIER, MIGRATION)]),
    NotHeldError(7),
    NotHeldError(7, "upgrade"),
    NotHeldError(),
    ManagerClosedError(REQUEST),
    ManagerClosedError(),
]

CATALOG = MessageCatalog(
    {
        "en": {
            "BACKUP": "Cannot ${action} ${type}. VM ${VmName} is being saved.",
            "RENAME": "Cannot ${action} ${type}. VM ${VmName} is being renamed.",
        },
        "de": {"BACKUP": "${VmName} wird gesichert."},
    }
)


def carry_by_pickle(error):
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("carry", [copy.copy, copy.deepcopy, carry_by_pickle])
def test_error_survives_copying_and_pickling(error, carry):
    carried = carry(error)
    assert (type(carried), vars(carried), carried.args, str(carried)) == (
        type(error),
        vars(error),
        error.args,
        str(error),
    )


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (LockConflictError, LockError),
        (LockTimeoutError, LockConflictError),
        (LockTimeoutError, TimeoutError),
        (DeadlockError, LockError),
        (NotHeldError, LockError),
        (NotHeldError, RuntimeError),
        (ManagerClosedError, LockError),
        (ManagerClosedError, RuntimeError),
    ],
)
def test_error_is_also_an_error_of(kind, base):
    assert issubclass(kind, base)


def test_notes_on_an_error_survive_pickling():
    error = LockTimeoutError(REQUEST, [BACKUP], 1)
    error.add_note("while tidying up")
    assert carry_by_pickle(error).__notes__ == ["while tidying up"]


def test_conflict_sorts_its_blockers():
    error = LockConflictError(REQUEST, [EARLIER, BACKUP, MIGRATION, MAINTENANCE])
    assert error.blockers == (MAINTENANCE, MIGRATION, BACKUP, EARLIER)


def test_messages_are_those_of_the_blockers_in_order():
    error = LockConflictError(REQUEST, [EARLIER, BACKUP, MIGRATION, MAINTENANCE])
    assert error.messages == (
        "in maintenance",
        Message("BACKUP", VmName="db"),
        Message("RENAME", VmName="web"),
    )


def test_equal_messages_appear_once():
    twin = Holder(VM, Mode.SHARED, "other", Message("BACKUP", VmName="db"), 6, 1.0)
    assert LockConflictError(REQUEST, [BACKUP, twin]).messages == (BACKUP.message,)


def test_conflict_text_names_key_mode_holder_and_age():
    assert str(LockConflictError(REQUEST, [MIGRATION])) == (
        "cannot acquire ('VM', '42') exclusive: held shared by MigrateVm 7f3a for 12 s"
    )


def test_conflict_text_has_a_line_for_each_blocker_and_message():
    error = LockConflictError(REQUEST, [EARLIER, BACKUP, MIGRATION, MAINTENANCE])
    assert str(error) == (
        "cannot acquire ('POOL', 00000000-0000-0000-0000-000000000007) shared: "
        "held exclusive by 17 for 3 min 4 s\n"
        "and ('VM', '42') exclusive: held shared by MigrateVm 7f3a for 12 s\n"
        "and ('VM', '42') exclusive: held shared by BackupVm 90bc for 250 ms\n"
        "and ('VM', '42') exclusive: awaited exclusive by an unnamed owner for 2 s\n"
        "detail: in maintenance\n"
        "detail: BACKUP (VmName: db)\n"
        "detail: RENAME (VmName: web)"
    )


def test_conflict_text_of_many_blockers_is_cut_short():
    request = Request(frozenset(range(1000)), frozenset())
    blockers = [Holder(key, Mode.SHARED, "x", None, key, 1.0) for key in range(1000)]
    lines = str(LockConflictError(request, blockers)).splitlines()
    assert (len(lines), lines[-1]) == (11, "and 990 more")


def test_conflict_text_without_blockers_names_the_request():
    assert str(LockConflictError(REQUEST)) == (
        "cannot acquire ('VM', '42') exclusive, "
        "('POOL', 00000000-0000-0000-0000-000000000007) shared"
    )


def test_timeout_text_names_the_limit():
    assert str(LockTimeoutError(REQUEST, [MIGRATION], 2.5)) == (
        "cannot acquire ('VM', '42') exclusive within 2.5 s: held shared by MigrateVm 7f3a for 12 s"
    )


def test_deadlock_text_names_each_link_of_the_cycle():
    first = Waiter(VM, Mode.EXCLUSIVE, "RemoveVm 11aa", None, 0.0)
    second = Waiter("disk", Mode.SHARED, "MigrateVm 7f3a", None, 3.0)
    holder = Holder("disk", Mode.EXCLUSIVE, "RemoveVm 11aa", None, 1, 60.0)
    request = Request(frozenset({VM}), frozenset(), "RemoveVm 11aa")
    assert str(DeadlockError(request, [(first, MIGRATION), (second, holder)])) == (
        "cannot acquire ('VM', '42') exclusive: it would wait for ever\n"
        "detail: RemoveVm 11aa waits for ('VM', '42') exclusive: "
        "held shared by MigrateVm 7f3a for 12 s\n"
        "detail: MigrateVm 7f3a waits for 'disk' shared: "
        "held exclusive by RemoveVm 11aa for 1 min"
    )


CYCLE = DeadlockError(
    Request(frozenset({VM}), frozenset(), "RemoveVm 11aa"),
    [
        (Waiter(VM, Mode.EXCLUSIVE, "RemoveVm 11aa", None, 0.0), BACKUP),
        (
            Waiter("disk", Mode.SHARED, "BackupVm 90bc", None, 3.0),
            Holder("disk", Mode.EXCLUSIVE, "RemoveVm 11aa", None, 1, 60.0),
        ),
    ],
)


def test_deadlock_sentences_go_round_the_cycle():
    assert CYCLE.explain() == [
        (
            "cannot acquire ('VM', '42') exclusive, it would wait for ever: "
            "held shared by BackupVm 90bc for 250 ms"
        ),
        "BackupVm 90bc waits for 'disk' shared: held exclusive by RemoveVm 11aa for 1 min",
    ]
    assert CYCLE.explain(CATALOG, action="remove", type="VM") == [
        "Cannot remove VM. VM db is being saved.",
        "BackupVm 90bc waits for 'disk' shared: held exclusive by RemoveVm 11aa for 1 min",
    ]


def test_deadlock_names_who_is_in_the_way_of_the_request_itself():
    assert CYCLE.blockers == (BACKUP,)


def test_deadlock_is_given_as_json():
    row = json.loads(json.dumps(CYCLE.to_dict()))
    assert list(row) == ["request", "blockers", "cycle"]
    assert row["request"] == {
        "exclusive": [["VM", "42"]],
        "shared": [],
        "owner": "RemoveVm 11aa",
        "message": None,
    }
    assert [step["blocker"] for step in row["cycle"]][:1] == row["blockers"]
    assert row["cycle"][1] == {
        "waiter": {
            "key": "disk",
            "mode": "shared",
            "owner": "BackupVm 90bc",
            "message": None,
            "waited_for": 3.0,
        },
        "blocker": {
            "key": "disk",
            "mode": "exclusive",
            "owner": "RemoveVm 11aa",
            "message": None,
            "token": 1,
            "held_for": 60.0,
        },
    }


def test_deadlock_text_of_a_long_cycle_is_cut_short():
    lines = str(DeadlockError(REQUEST, [(EARLIER, MIGRATION)] * 100)).splitlines()
    assert (len(lines), lines[-1]) == (12, "detail: and 90 more")


def test_not_held_text_names_the_grant():
    assert str(NotHeldError(7)) == "cannot release grant 7: it is not held"


ENDED = {
    "release": lambda grant: grant.release(),
    "downgrade": lambda grant: grant.downgrade(),
    "upgrade": lambda grant: grant.upgrade(),
    "transfer": lambda grant: grant.transfer("you"),
}


@pytest.mark.parametrize("keys", [["a"], []], ids=["keys", "nothing"])
@pytest.mark.parametrize("action", ENDED)
def test_not_held_text_says_what_was_to_be_done(lock_manager, action, keys):
    grant = lock_manager.acquire(shared=keys)
    grant.release()
    with pytest.raises(NotHeldError) as caught:
        ENDED[action](grant)
    assert str(caught.value) == f"cannot {action} grant {grant.token}: it is not held"
    assert (caught.value.token, caught.value.action) == (grant.token, action)


def test_not_held_text_of_a_lock_is_that_of_threading():
    assert str(NotHeldError()) == "release unlocked lock"


def test_closed_text_names_the_request():
    request = Request(frozenset({VM}), frozenset())
    assert str(ManagerClosedError(request)) == (
        "cannot acquire ('VM', '42') exclusive: the manager is closed"
    )


def test_closed_text_without_a_request():
    assert str(ManagerClosedError()) == "the manager is closed"


def test_explain_translates_the_message_of_a_blocker():
    sentences = LockConflictError(REQUEST, [BACKUP]).explain(CATALOG, action="remove", type="VM")
    assert sentences == ["Cannot remove VM. VM db is being saved."]


def test_explain_never_mixes_variables_of_two_messages():
    error = LockConflictError(REQUEST, [BACKUP, EARLIER])
    assert error.explain(CATALOG, action="remove", type="VM", VmName="mine") == [
        "Cannot remove VM. VM db is being saved.",
        "Cannot remove VM. VM web is being renamed.",
    ]


def test_explain_does_not_lend_a_variable_from_one_message_to_another():
    nameless = Waiter(VM, Mode.EXCLUSIVE, None, Message("RENAME"), 2.0)
    sentences = LockConflictError(REQUEST, [BACKUP, nameless]).explain(CATALOG)
    assert sentences[1] == "Cannot ${action} ${type}. VM ${VmName} is being renamed."


def test_explain_speaks_the_wanted_language():
    assert LockConflictError(REQUEST, [BACKUP]).explain(CATALOG, "de_AT") == ["db wird gesichert."]


@pytest.mark.parametrize("blocker", [MIGRATION, MAINTENANCE], ids=["none", "unknown"])
def test_explain_describes_a_blocker_whose_message_has_no_sentence(blocker):
    error = LockConflictError(REQUEST, [blocker])
    assert error.explain(CATALOG) == [str(error).splitlines()[0]]


def test_explain_without_catalog_describes_each_blocker():
    error = LockConflictError(REQUEST, [MIGRATION, BACKUP])
    assert error.explain() == [
        "cannot acquire ('VM', '42') exclusive: held shared by MigrateVm 7f3a for 12 s",
        "cannot acquire ('VM', '42') exclusive: held shared by BackupVm 90bc for 250 ms",
    ]


def test_explain_says_equal_sentences_once():
    twin = Holder(VM, Mode.SHARED, "other", Message("BACKUP", VmName="db"), 6, 1.0)
    assert len(LockConflictError(REQUEST, [BACKUP, twin]).explain(CATALOG)) == 1


def test_explain_without_blockers_still_says_something():
    assert LockConflictError(REQUEST).explain(CATALOG) == [str(LockConflictError(REQUEST))]


def test_conflict_as_dict_is_fit_for_json():
    request = Request(frozenset({VM, b"\x01"}), frozenset({POOL}), uuid.UUID(int=1), "WHY")
    error = LockTimeoutError(request, [BACKUP, MAINTENANCE, EARLIER], 2.5)
    assert json.loads(json.dumps(error.to_dict())) == {
        "request": {
            "exclusive": ["01", ["VM", "42"]],
            "shared": [["POOL", "00000000-0000-0000-0000-000000000007"]],
            "owner": "00000000-0000-0000-0000-000000000001",
            "message": "WHY",
        },
        "blockers": [
            {
                "key": ["POOL", "00000000-0000-0000-0000-000000000007"],
                "mode": "exclusive",
                "owner": 17,
                "message": "in maintenance",
                "token": 4,
                "held_for": 184.0,
            },
            {
                "key": ["VM", "42"],
                "mode": "shared",
                "owner": "BackupVm 90bc",
                "message": {"code": "BACKUP", "variables": {"VmName": "db"}},
                "token": 5,
                "held_for": 0.25,
            },
            {
                "key": ["VM", "42"],
                "mode": "exclusive",
                "owner": None,
                "message": {"code": "RENAME", "variables": {"VmName": "web"}},
                "waited_for": 2.0,
            },
        ],
        "timeout": 2.5,
    }


def test_conflict_as_dict_makes_text_of_odd_variables():
    holder = Holder(VM, Mode.SHARED, "x", Message("ODD", what=frozenset({1})), 1, 0.0)
    [row] = LockConflictError(REQUEST, [holder]).to_dict()["blockers"]
    assert row["message"] == {"code": "ODD", "variables": {"what": "frozenset({1})"}}
