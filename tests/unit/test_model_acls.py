"""Permissions and roles: the catalogue, the shipped roles against QVD 4.2, and the algebra on any graph."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from qvd.model.acls import CATALOGUE, ever_operative, matching, operative
from qvd.model.declared import COMMON, SUPERTENANT
from qvd.model.roles import (
    Graph,
    Role,
    RoleCycle,
    above,
    disinherit,
    each,
    effective,
    give,
    inherit,
    inherited,
    origins,
    take,
)
from qvd.model.shipped_roles import ALL, BY_NAME, GRAPH, ROOT, SCOPES, TENANT_OWNER, expanded, matrix

ORIGINAL = frozenset(name for name, acl in CATALOGUE.items() if acl.original)
TOTALS = """
Operator L1 91, Operator L2 100, Operator L3 168, Root 244, Administrators Creator 2, Administrators Eraser 1,
Administrators Manager 18, Administrators Operator 1, Administrators Reader 11, Administrators Updater 3,
Images Creator 6, Images Eraser 1, Images Manager 36, Images Operator 2, Images Reader 21, Images Updater 6,
Logs Manager 6, Master 186, Nodes Creator 2, Nodes Eraser 1, Nodes Manager 30, Nodes Operator 2, Nodes Reader 21,
Nodes Updater 4, OSFs Creator 4, OSFs Eraser 1, OSFs Manager 35, OSFs Operator 2, OSFs Reader 24, OSFs Updater 5,
QVD Config Manager 3, QVD Creator 15, QVD Eraser 4, QVD Manager 141, QVD Operator 10, QVD Reader 91, QVD Updater 19,
Roles Creator 1, Roles Eraser 1, Roles Manager 16, Roles Operator 2, Roles Reader 10, Roles Updater 2,
Tenants Creator 1, Tenants Eraser 2, Tenants Manager 28, Tenants Operator 1, Tenants Reader 20, Tenants Updater 4,
Total Master 244, Users Creator 2, Users Eraser 1, Users Manager 25, Users Operator 1, Users Reader 18, Users Updater 3,
Views Manager 4, Views Operator 3, Views Reader 1, VMs Creator 3, VMs Eraser 1, VMs Manager 42, VMs Operator 5,
VMs Reader 28, VMs Updater 5, WAT Config Manager 1, WAT Manager 45
"""
NAMES = ("a.see.x", "a.see.y", "b.see.", "b.update.x")


def totals() -> dict[str, int]:
    pairs = [entry.strip().rpartition(" ") for entry in TOTALS.replace("\n", " ").split(",")]
    return {name: int(total) for name, _, total in pairs}


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, Role]:
    """Roles that inherit those before them only, so that there is no circle."""
    made: dict[int, Role] = {}
    sets = st.frozensets(st.sampled_from(NAMES))
    for number in range(1, draw(st.integers(1, 7)) + 1):
        positives = draw(sets)
        parents = draw(st.frozensets(st.sampled_from(sorted(made)), max_size=3)) if made else frozenset()
        made[number] = Role(number, positives, draw(sets) - positives, parents)
    return made


def gives(graph: Graph, role: Role, name: str) -> bool:
    """The definition, said in another way: some line of inheritance on which nobody excludes it."""
    return name in role.positives or (
        name not in role.negatives and any(gives(graph, graph[parent], name) for parent in role.parents)
    )


def test_catalogue() -> None:
    assert len(ORIGINAL) == 244
    assert all(acl.english and acl.spanish and acl.name == name for name, acl in CATALOGUE.items())
    assert len({acl.english for acl in CATALOGUE.values()}) == len(CATALOGUE)
    assert {acl.domain for acl in CATALOGUE.values() if acl.reaches_all} == {"host", "tenant", "config", "log"}
    assert (CATALOGUE["vm.spy."].verb, CATALOGUE["vm.spy."].detail) == ("spy", "")
    assert CATALOGUE["tenant.see.vm-list-state"].english == "See tenants: state of its virtual machines"


def test_patterns() -> None:
    assert matching("vm.spy.*") == {"vm.spy.", "vm.spy.interactive"}
    assert matching("vm.spy.") == {"vm.spy."}
    assert not matching("vm.spy.x") and not matching("VM.*")
    assert matching("*.see.vm-list") == {f"{kind}.see.vm-list" for kind in ("di", "host", "osf", "tenant", "user")}
    assert matching("vm.*sp*y*.") == {"vm.spy."}
    assert not matching("vm.spy.*spy.") and matching("*") == set(CATALOGUE) == matching("*" * 4096)
    with pytest.raises(ValueError, match="called vm"):
        expanded(["vm.fly.*"])


@pytest.mark.acceptance(19)
def test_totals_of_the_shipped_roles() -> None:
    """Acceptance 19: as many permissions as in QVD 4.2, before the masks."""
    found = {role.name: len(effective(GRAPH, [role.role_id]) & ORIGINAL) for role in ALL if role.role_id <= 67}
    assert found == totals()
    assert sum(len(role.parents) for role in ALL if role.role_id <= 67) == 86
    assert {role.name for role in ALL if role.assignable and role.role_id <= 67} == {
        "Operator L1",
        "Operator L2",
        "Operator L3",
        "Root",
    }


def test_our_roles() -> None:
    root = effective(GRAPH, [ROOT])
    assert root == set(CATALOGUE)
    assert effective(GRAPH, [TENANT_OWNER]) == {name for name in root if not CATALOGUE[name].reaches_all}
    auditor = effective(GRAPH, [BY_NAME["Auditor"].role_id])
    assert {CATALOGUE[name].verb for name in auditor} == {"see", "see-main", "see-details", "export", "manage"}
    assert {"log.see-main.", "vm.see.log"} <= auditor
    helpdesk = effective(GRAPH, [BY_NAME["Helpdesk"].role_id])
    assert "vm.spy." in helpdesk and "vm.spy.interactive" not in helpdesk


def test_masks() -> None:
    """Tenants do not exist for whoever belongs to one. Logs do: that they were masked was a defect."""
    everything = frozenset(CATALOGUE)
    assert operative(everything, superadmin=True) == everything
    assert everything - operative(everything, superadmin=False) == matching("tenant.*")
    assert ever_operative(everything, SUPERTENANT) == ever_operative(everything, COMMON) == everything
    assert ever_operative(everything, 1) == everything - matching("tenant.*")


def test_matrix() -> None:
    cells = matrix()
    assert set(cells) == set(SCOPES)
    assert len(cells["VMs"]) == 6 and cells["VMs"]["Eraser"] == 61
    assert set(cells["WAT Config"]) == {"Manager"}


@pytest.mark.acceptance(19)
@given(graphs())
def test_closure(graph: dict[int, Role]) -> None:
    for role_id, role in graph.items():
        found = effective(graph, [role_id])
        assert found == {name for name in NAMES if gives(graph, role, name)}
        assert set(origins(graph, [role_id])) == found
    assert effective(graph, graph) == frozenset().union(*(effective(graph, [each]) for each in graph))


@given(graphs())
def test_origins_have_it_of_their_own(graph: dict[int, Role]) -> None:
    for name, whence in origins(graph, graph).items():
        assert whence and all(name in graph[role_id].positives for role_id in whence)


@pytest.mark.acceptance(19)
@given(graphs(), st.data())
def test_no_role_inherits_itself(graph: dict[int, Role], data: st.DataObject) -> None:
    child = graph[data.draw(st.sampled_from(sorted(graph)))]
    parent = data.draw(st.sampled_from(sorted(graph)))
    circular = child.role_id in above(graph, [parent])
    try:
        changed = inherit(graph, child, parent)
    except RoleCycle:
        assert circular
        return
    assert not circular
    after = {**graph, child.role_id: changed}
    assert effective(after, [child.role_id]) >= effective(graph, [child.role_id]) | effective(graph, [parent])
    assert not (changed.positives | changed.negatives) & effective(graph, [parent])


@pytest.mark.acceptance(19)
@given(graphs(), st.data())
def test_giving_and_taking(graph: dict[int, Role], data: st.DataObject) -> None:
    role = graph[data.draw(st.sampled_from(sorted(graph)))]
    name = data.draw(st.sampled_from(NAMES))
    before = effective(graph, [role.role_id])
    for change, expected in ((give, before | {name}), (take, before - {name})):
        changed = change(graph, role, name)
        assert effective({**graph, role.role_id: changed}, [role.role_id]) == expected
        assert not changed.positives & changed.negatives
        assert change(graph, changed, name) == changed
    # Defect E2 of QVD 4.2: one of its own that is inherited as well.
    both = evolve(role, positives=role.positives | {name}, negatives=role.negatives - {name})
    assert effective({**graph, role.role_id: take(graph, both, name)}, [role.role_id]) == before - {name}


@pytest.mark.acceptance(19)
@given(graphs(), st.data())
def test_no_exclusion_is_left_over(graph: dict[int, Role], data: st.DataObject) -> None:
    """Defect E1 of QVD 4.2."""
    role = graph[data.draw(st.sampled_from(sorted(graph)))]
    for parent in sorted(role.parents):
        role = disinherit(graph, role, parent)
        assert role.negatives <= inherited(graph, role)
    assert not role.parents


def test_one_after_another() -> None:
    graph = {1: Role(1, frozenset({"a"})), 2: Role(2)}
    changed = each(inherit, graph, graph[2], [1])
    assert each(take, graph, changed, ["a", "b"]) == Role(2, negatives=frozenset({"a"}), parents=frozenset({1}))
    assert each(give, graph, graph[2], ["b", "c"]).positives == {"b", "c"}


def test_a_circle_that_is_stored_ends() -> None:
    """The database refuses it; what a damaged one holds must not hang the service."""
    graph = {1: Role(1, frozenset({"a"}), parents=frozenset({2})), 2: Role(2, frozenset({"b"}), parents=frozenset({1}))}
    assert effective(graph, [1]) >= {"a"}
    assert effective(graph, [3]) == frozenset()
