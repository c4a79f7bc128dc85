# -*- test-case-name: tests.unit.test_model_acls -*-
"""
Roles and what comes of them. A role has permissions of its own, exclusions, and roles that it inherits; an exclusion
cuts only what comes through its own role, so another role may still give the permission.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from attrs import evolve, frozen

T = TypeVar("T")
EMPTY: frozenset[str] = frozenset()


@frozen
class Role:
    """One role, as it is stored.

    @ivar positives: permissions of its own.
    @ivar negatives: exclusions: cut from what it inherits.
    @ivar parents: ids of the roles that it inherits.
    """

    role_id: int
    positives: frozenset[str] = EMPTY
    negatives: frozenset[str] = EMPTY
    parents: frozenset[int] = frozenset()


Graph = Mapping[int, Role]
"""Roles by id, with all that they inherit. What is not in it gives nothing."""


class RoleCycle(Exception):
    """A role would inherit itself."""


def above(graph: Graph, roots: Iterable[int]) -> list[int]:
    """The roles of C{roots} and all that they inherit, each after its parents."""
    order: list[int] = []
    seen: set[int] = set()
    waiting = [(role_id, False) for role_id in roots]
    while waiting:
        role_id, done = waiting.pop()
        if done:
            order.append(role_id)
        elif role_id not in seen and role_id in graph:
            seen.add(role_id)
            waiting.append((role_id, True))
            waiting += [(parent, False) for parent in sorted(graph[role_id].parents)]
    return order


def effective(graph: Graph, roots: Iterable[int]) -> frozenset[str]:
    """What somebody who holds these roles may do, before any mask."""
    wanted = list(roots)
    found = _closure(graph, wanted)
    return EMPTY.union(*(found[role_id] for role_id in wanted if role_id in found))


def inherited(graph: Graph, role: Role) -> frozenset[str]:
    """What the roles give that it inherits, without its exclusions."""
    return effective(graph, role.parents)


def _closure(graph: Graph, roots: Iterable[int]) -> Mapping[int, frozenset[str]]:
    found: dict[int, frozenset[str]] = {}
    for role_id in above(graph, roots):
        role = graph[role_id]
        given = EMPTY.union(*(found.get(parent, EMPTY) for parent in role.parents))
        found[role_id] = role.positives | (given - role.negatives)
    return found


def origins(graph: Graph, roots: Iterable[int]) -> Mapping[str, frozenset[int]]:
    """For each permission of L{effective}, the roles that have it of their own and from which it comes."""
    wanted = list(roots)
    found: dict[int, dict[str, frozenset[int]]] = {}
    for role_id in above(graph, wanted):
        role = graph[role_id]
        given = merged(found.get(parent, {}) for parent in role.parents)
        mine = {name: whence for name, whence in given.items() if name not in role.negatives}
        found[role_id] = merged([mine, dict.fromkeys(role.positives, frozenset({role_id}))])
    return merged(found.get(role_id, {}) for role_id in wanted)


def merged(parts: Iterable[Mapping[str, frozenset[int]]]) -> dict[str, frozenset[int]]:
    together: dict[str, frozenset[int]] = {}
    for part in parts:
        for name, whence in part.items():
            together[name] = together.get(name, frozenset()) | whence
    return together


def give(graph: Graph, role: Role, name: str) -> Role:
    """The role when it gives a permission: no longer excluded, and of its own where it is not inherited."""
    negatives = role.negatives - {name}
    if name in role.positives or name in inherited(graph, role):
        return evolve(role, negatives=negatives)
    return evolve(role, positives=role.positives | {name}, negatives=negatives)


def take(graph: Graph, role: Role, name: str) -> Role:
    """The role when it does not give a permission: none of its own, and excluded where it is inherited."""
    negatives = role.negatives - {name}
    if name in inherited(graph, role):
        negatives |= {name}
    return evolve(role, positives=role.positives - {name}, negatives=negatives)


def inherit(graph: Graph, role: Role, parent: int) -> Role:
    """The role when it inherits another one, without what of its own the other makes superfluous.

    @raise RoleCycle: the other inherits it, or is it.
    """
    if role.role_id in above(graph, [parent]) or parent == role.role_id:
        raise RoleCycle
    provided = effective(graph, [parent])
    return evolve(
        role,
        parents=role.parents | {parent},
        positives=role.positives - provided,
        negatives=role.negatives - provided,
    )


def disinherit(graph: Graph, role: Role, parent: int) -> Role:
    """The role when it no longer inherits another one, without exclusions that exclude nothing any more."""
    left = evolve(role, parents=role.parents - {parent})
    return evolve(left, negatives=left.negatives & inherited(graph, left))


def each(change: Callable[[Graph, Role, T], Role], graph: Graph, role: Role, values: Iterable[T]) -> Role:
    """The role after one change for each value."""
    for value in values:
        role = change({**graph, role.role_id: role}, role, value)
    return role
