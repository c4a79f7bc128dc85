# -*- test-case-name: tests.admin.test_roles -*-
"""Lists of permissions: what there is, what somebody has or gives, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from qvd.admin.call import Answer, Call
from qvd.admin.endpoint import Parameter
from qvd.admin.problems import Problem
from qvd.model.acls import CATALOGUE, Acl, exists_for, matching
from qvd.model.roles import Graph, origins

PATTERN = Parameter("pattern", {"type": "string"}, "Only permissions whose names match; * is any text")
GROUPS: Mapping[str, Callable[[Acl], str]] = {"section": lambda acl: acl.domain, "action": lambda acl: acl.verb}
PARAMETERS = (
    PATTERN,
    Parameter("group_by", {"type": "string", "enum": list(GROUPS)}, "Names by kind of object or by what is done"),
)


class NamedRole(msgspec.Struct):
    """A role, told."""

    id: int
    name: str


class HeldAcl(msgspec.Struct):
    """A permission that somebody has. C{roles}: those that it comes from."""

    name: str
    roles: list[NamedRole] | UnsetType = UNSET


class Held(msgspec.Struct):
    """Permissions that somebody has. C{groups}: their names, grouped as was asked for."""

    items: list[HeldAcl]
    total: int
    groups: dict[str, list[str]] | UnsetType = UNSET


class Words(msgspec.Struct):
    """A text in both languages."""

    en: str
    es: str


class KnownAcl(msgspec.Struct, rename={"reaches_all": "global"}):
    """A permission that there is. C{global}: its effect goes beyond one tenant; C{operative}: the caller has it."""

    name: str
    domain: str
    verb: str
    detail: str
    description: Words
    reaches_all: bool
    operative: bool


class Known(msgspec.Struct):
    """Permissions that there are."""

    items: list[KnownAcl]
    total: int


def shown(call: Call, names: Iterable[str]) -> list[str]:
    """Those that exist for the caller and that were asked for, in order."""
    pattern = call.one("pattern")
    wanted = matching(pattern) if pattern else CATALOGUE.keys()
    return sorted(name for name in names if name in wanted and exists_for(name, call.principal.superadmin))


def chosen(call: Call, name: str, choices: Iterable[str], default: str) -> str:
    """A parameter that is one of a few words."""
    value = call.one(name, default)
    if value != default and value not in choices:
        raise Problem("malformed-request", f"{name} is one of {', '.join(choices)}")
    return value


async def answer(
    call: Call,
    graph: Graph,
    role_ids: Iterable[int],
    mask: Callable[[Iterable[str]], frozenset[str]],
    with_roles: bool,
) -> Answer:
    """What these roles give, as L{Held}.

    @param with_roles: the caller may see where each permission comes from.
    """
    group_by = chosen(call, "group_by", GROUPS, "")
    found = origins(graph, role_ids)
    names = shown(call, mask(found))
    titles = await call.services.roles.names({each for name in names for each in found[name]}) if with_roles else {}
    items: list[dict[str, Any]] = []
    for name in names:
        item: dict[str, Any] = {"name": name}
        if with_roles:
            item["roles"] = [{"id": each, "name": titles.get(each, "")} for each in sorted(found[name])]
        items.append(item)
    body: dict[str, Any] = {"items": items, "total": len(items)}
    if group_by:
        body["groups"] = grouped(names, GROUPS[group_by])
    return Answer(200, body)


def grouped(names: Iterable[str], key: Callable[[Acl], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(CATALOGUE[name]), []).append(name)
    return groups


async def read_catalogue(call: Call) -> Answer:
    """All permissions that exist for the caller."""
    items = [
        {
            "name": name,
            "domain": known.domain,
            "verb": known.verb,
            "detail": known.detail,
            "description": {"en": known.english, "es": known.spanish},
            "global": known.reaches_all,
            "operative": name in call.principal.acls,
        }
        for name in shown(call, CATALOGUE)
        for known in [CATALOGUE[name]]
    ]
    return Answer(200, {"items": items, "total": len(items)})
