"""From a document and a farm to steps and calls: in order of dependence, and none where nothing differs."""

from __future__ import annotations

from typing import Any

import pytest

from qvd.declarative.calls import Call, Calls, Password, Ref, filled
from qvd.declarative.document import DocumentError, parse
from qvd.declarative.kinds import KINDS, Fields, Item, fields_of
from qvd.declarative.plan import Step, plan
from qvd.declarative.reading import Farm
from qvd.declarative.wanted import Wanted, read
from tests.admin.test_openapi import described

FIELDS = {kind.name: fields_of(described(), kind) for kind in KINDS}
EMPTY = Farm({}, Item("configuration", (), ""), True)
TWO = """\
hosts: {node: {address: "1"}}
tenants:
  a:
    users: {u: {vms: {v: {osf: o}}}, w: {}}
    osfs: {o: {images: {"1": {tags: [x, default]}, "2": {tags: [y]}}}}
    roles: {Third: {roles: [second]}, Second: {roles: [First]}, First: {acls: {positive: [a.b]}}}
    administrators: {x: {roles: [THIRD]}}
    properties: {p: {kinds: [user]}}
"""


def wanted(text: str) -> Wanted:
    return read(parse(text, "f"), FIELDS)


def as_farm(document: Wanted) -> Farm:
    """One that is as a document wants it."""
    items = {}
    for number, (at, item) in enumerate(document.items.items(), 1):
        items[at] = Item(item.kind, item.key, item.name, item.values, number=number)
    return Farm(items, document.configuration or EMPTY.configuration, True)


def titles(steps: Any) -> list[str]:
    return [f"{step.verb} {step.item.title}" for step in steps]


def made(document: Wanted, farm: Farm, prune: bool = False) -> list[Call]:
    calls = Calls(document, farm, FIELDS)
    return [call for step in plan(document, farm, FIELDS, prune) for call in calls.of(step)]


def test_fields_are_those_of_the_api() -> None:
    of_vm = frozenset({"description", "di_tag", "blocked", "ip"})
    assert FIELDS["vm"] == Fields(of_vm, of_vm)
    assert FIELDS["role"].created - FIELDS["role"].changed == {"internal"}
    assert {"memory", "cpus", "persistence", "hypervisor"} <= FIELDS["osf"].all
    assert FIELDS["di"].all == {"description", "blocked", "expire_soft_after", "expire_hard_after"}
    assert not any({"password", "id", "tenant_id"} & fields.all for fields in FIELDS.values())


def test_each_after_what_it_depends_on() -> None:
    assert titles(plan(wanted(TWO), EMPTY, FIELDS)) == [
        "create tenant a",
        "create property a/p",
        "create host node",
        "create role a/First",
        "create role a/Second",
        "create role a/Third",
        "create administrator a/x",
        "create osf a/o",
        "missing di a/o/1",
        "missing di a/o/2",
        "create user a/u",
        "create user a/w",
        "create vm a/u/v",
    ]


def test_numbers_stand_for_what_is_made_on_the_way() -> None:
    calls = made(wanted(TWO), EMPTY)
    vm = next(call for call in calls if call.path == ("/vms",))
    assert vm.body == {"name": "v", "user_id": Ref("user", ("a", "u")), "osf_id": Ref("osf", ("a", "o"))}
    numbers = {Ref("user", ("a", "u")): 4, Ref("osf", ("a", "o")): 5}
    assert filled(vm.body, numbers, "") == {"name": "v", "user_id": 4, "osf_id": 5}
    administrator = next(call for call in calls if call.path == ("/administrators",))
    assert administrator.body["password"] == Password() and administrator.body["roles"] == [Ref("role", ("a", "third"))]
    assert (
        filled(administrator.body, {Ref("role", ("a", "third")): 1, Ref("tenant", ("a",)): 2}, "pw")["password"] == "pw"
    )


def test_what_is_so_already_needs_nothing() -> None:
    document = wanted(TWO)
    assert plan(document, as_farm(document), FIELDS, prune=True) == []
    assert plan(wanted(""), as_farm(document), FIELDS, prune=True) == []


def test_a_circle_of_roles_is_for_the_api_to_refuse() -> None:
    text = "tenants: {a: {roles: {One: {roles: [Two]}, Two: {roles: [One], acls: {negative: [x]}}}}}"
    assert len(plan(wanted(text), EMPTY, FIELDS)) == 3


def test_what_goes() -> None:
    farm = as_farm(wanted(TWO))
    for text, gone in (
        ("tenants: {a: {users: {}}}", ["vm a/u/v", "user a/u", "user a/w"]),
        ("tenants: {a: {users: {u: {}}}}", ["user a/w"]),
        ("tenants: {a: {users: {u: {vms: {}}, w: {}}}}", ["vm a/u/v"]),
        ("tenants: {a: {osfs: {}}}", ["di a/o/1", "di a/o/2", "osf a/o"]),
        ("tenants: {a: {roles: {}}}", ["role a/Third", "role a/Second", "role a/First"]),
        ("tenants: {}", ["tenant a"]),
        ("hosts: {}", ["host node"]),
        ("qvd: 1", []),
    ):
        assert titles(plan(wanted(text), farm, FIELDS, prune=True)) == [f"delete {each}" for each in gone], text
        assert plan(wanted(text), farm, FIELDS) == []


def test_the_own_account_stays() -> None:
    farm = as_farm(wanted(TWO))
    own = Farm(farm.items, farm.configuration, True, ("a", "x"))
    assert plan(wanted("tenants: {a: {administrators: {}}}"), own, FIELDS, prune=True) == []


def calls_to(farm: str, text: str) -> list[tuple[str, str, Any]]:
    found = made(wanted(text), as_farm(wanted(farm)))
    return [
        (each.method, "".join(part if isinstance(part, str) else part.kind for part in each.path), each.body)
        for each in found
    ]


def test_tags_move_and_go() -> None:
    before = 'tenants: {a: {osfs: {o: {images: {"1": {tags: [default, x, y]}, "2": {tags: []}}}}}}'
    after = 'tenants: {a: {osfs: {o: {images: {"1": {tags: []}, "2": {tags: [default, x]}}}}}}'
    assert calls_to(before, after) == [
        ("DELETE", "/images/di/tags/y", None),
        ("PUT", "/images/di/tags/default", None),
        ("PUT", "/images/di/tags/x", None),
    ]


def test_permissions_go_before_roles_and_come_after() -> None:
    before = "tenants: {a: {roles: {P: {acls: {positive: [x]}}, R: {roles: [], acls: {positive: [y]}}}}}"
    after = "tenants: {a: {roles: {P: {acls: {positive: [x]}}, R: {roles: [P], acls: {positive: [z], negative: [x]}}}}}"
    assert calls_to(before, after) == [
        ("PATCH", "/roles/role/acls", {"grant": [], "revoke": ["y"]}),
        ("PUT", "/roles/role/parents/role", None),
        ("PATCH", "/roles/role/acls", {"grant": ["z"], "revoke": ["x"]}),
    ]
    # What is inherited anyway, and what excludes nothing, are no difference.
    same = "tenants: {a: {roles: {P: {acls: {positive: [x]}}, R: {roles: [], acls: {positive: [y], negative: [q]}}}}}"
    assert calls_to(before, same) == []


def test_a_part_of_a_mapping_is_said() -> None:
    before = (
        "configuration: {k: 1, l: 2}\n"
        "tenants: {a: {quotas: {vms: 1, users: 2}, users: {u: {properties: {p: 1, q: 2}}}}}"
    )
    after = (
        "configuration: {k: null, m: 3}\ntenants: {a: {quotas: {vms: null}, users: {u: {properties: {p: null, r: x}}}}}"
    )
    assert calls_to(before, after) == [
        ("PATCH", "/config", {"set": {"m": 3}, "reset": ["k"]}),
        ("PUT", "/tenants/tenant/quotas", {"vms": None, "users": 2}),
        ("PATCH", "/users/user", {"properties": {"p": None, "r": "x"}}),
    ]
    assert calls_to(before, after.replace("m: 3", "l: true"))[0][2]["set"] == {"l": True}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tenants: {'*': {}}", "f:1: tenant * is none that you may make"),
        ("tenants: {a: {users: {u: {vms: {v: {}}}}}}", "needs an osf"),
        ("tenants: {a: {users: {u: {vms: {v: {osf: b}}}}}}", "wants the osf 'b', which is not there"),
        ("tenants: {a: {osfs: {o: {images: {'1': {state: new}}}}}}", "the state of di a/o/1 is one of"),
        ("tenants: {a: {roles: {r: {acls: {positive: ['vm.*']}}}}}", "whole names"),
        ("tenants: {a: {users: {u: {password: x}}}}", "user a/u has no member 'password'"),
        ("tenants: {a: {users: {u: [1]}}}", "user a/u must be a mapping"),
        ("[1]", "A farm must be a mapping"),
    ],
)
def test_what_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match="f:1: ") as told:
        plan(wanted(text), EMPTY, FIELDS)
    assert said in str(told.value)


def test_what_cannot_be_changed() -> None:
    farm = as_farm(wanted("tenants: {a: {roles: {r: {internal: false}}}}"))
    with pytest.raises(DocumentError, match="internal of role a/r cannot be changed afterwards"):
        plan(wanted("tenants: {a: {roles: {r: {internal: true}}}}"), farm, FIELDS)
    fixed = Item("role", ("a", "r"), "r", {"description": "x"}, managed=False)
    with pytest.raises(DocumentError, match="stays as it is"):
        plan(
            wanted("tenants: {a: {roles: {r: {description: y}}}}"),
            Farm({("role", ("a", "r")): fixed}, EMPTY.configuration, True),
            FIELDS,
        )


def test_a_step_without_calls() -> None:
    document = wanted(TWO)
    assert Calls(document, EMPTY, FIELDS).of(Step("missing", document.items["di", ("a", "o", "1")])) == []
