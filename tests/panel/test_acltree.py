"""The tree of permissions."""

from __future__ import annotations

from typing import Any

from qvd.panel.acltree import found_in, tree


def known(name: str, domain: str, verb: str = "see") -> dict[str, Any]:
    words = {"en": f"English of {name}", "es": f"Español de {name}"}
    return {"name": name, "domain": domain, "verb": verb, "detail": "", "description": words, "global": False}


CATALOGUE = [
    known("vm.see-main.", "vm"),
    known("vm.create.", "vm", "create"),
    known("user.see-main.", "user"),
    known("user.delete.", "user", "delete"),
]
ROLE = {"id": 9, "name": "ours", "acls": {"positive": ["vm.create."], "negative": ["user.delete."]}}
HELD = [
    {"name": "vm.see-main.", "roles": [{"id": 21, "name": "Operator L1"}]},
    {"name": "vm.create.", "roles": [{"id": 9, "name": "ours"}, {"id": 21, "name": "Operator L1"}]},
]


def test_each_permission_says_where_it_comes_from() -> None:
    user, vm = tree(CATALOGUE, HELD, ROLE, "en")
    assert [(leaf.name, leaf.state, leaf.origins) for leaf in (*vm.leaves, *user.leaves)] == [
        ("vm.see-main.", "inherited", ("Operator L1",)),
        ("vm.create.", "granted", ("Operator L1",)),
        ("user.see-main.", "none", ()),
        ("user.delete.", "excluded", ()),
    ]
    assert (user.effective, vm.effective) == (0, 2)


def test_an_administrator_has_permissions_of_roles() -> None:
    _, vm = tree(CATALOGUE, HELD, None, "es")
    assert [leaf.state for leaf in vm.leaves] == ["granted", "granted"]
    assert vm.leaves[1].origins == ("ours", "Operator L1")
    assert vm.leaves[0].text == "Español de vm.see-main."


def test_branches_may_be_kinds_of_action() -> None:
    assert [branch.name for branch in tree(CATALOGUE, HELD, ROLE, "en", by="verb")] == ["create", "delete", "see"]


def test_a_search_looks_at_names_and_descriptions() -> None:
    branches = tree(CATALOGUE, HELD, ROLE, "en")
    (only,) = found_in(branches, "ENGLISH of vm.c")
    assert [leaf.name for leaf in only.leaves] == ["vm.create."]
    assert [branch.name for branch in found_in(branches, "", "effective")] == ["vm"]
    assert [branch.name for branch in found_in(branches, "", "excluded")] == ["user"]
