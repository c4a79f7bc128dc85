# -*- test-case-name: tests.panel.test_acltree -*-
"""The permissions of a role or an administrator as a tree, of what the API says about each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

GRANTED, INHERITED, EXCLUDED, NONE = "granted", "inherited", "excluded", "none"
BY = ("domain", "verb")


@frozen
class Leaf:
    """A permission.

    @ivar state: whether the role gives it: by itself, by another one, not any more, or not.
    @ivar origins: names of the roles that it comes from.
    """

    name: str
    text: str
    state: str
    origins: tuple[str, ...]
    reaches_all: bool

    @property
    def effective(self) -> bool:
        return self.state in (GRANTED, INHERITED)


@define
class Branch:
    """Permissions of one kind of object, or of one kind of action."""

    name: str
    leaves: list[Leaf] = field(factory=list)

    @property
    def effective(self) -> int:
        return sum(leaf.effective for leaf in self.leaves)


def tree(
    catalogue: Iterable[Mapping[str, Any]],
    effective: Iterable[Mapping[str, Any]],
    role: Mapping[str, Any] | None,
    language: str,
    by: str = BY[0],
) -> Sequence[Branch]:
    """All permissions.

    @param catalogue: C{GET /acls}.
    @param effective: C{GET .../acls} of what is in effect.
    @param role: the role itself; L{None}: they are an administrator's.
    """
    held = {item["name"]: item for item in effective}
    excluded = set((role or {}).get("acls", {}).get("negative", ()))
    branches: dict[str, Branch] = {}
    for item in catalogue:
        branch = branches.setdefault(item[by], Branch(item[by]))
        branch.leaves.append(leaf(item, held.get(item["name"]), excluded, role, language))
    return [branches[name] for name in sorted(branches)]


def leaf(
    item: Mapping[str, Any],
    held: Mapping[str, Any] | None,
    excluded: set[str],
    role: Mapping[str, Any] | None,
    language: str,
) -> Leaf:
    origins = (held or {}).get("roles", [])
    own = (role or {}).get("acls", {}).get("positive", ())
    if held is None:
        state = EXCLUDED if item["name"] in excluded else NONE
    else:
        state = GRANTED if role is None or item["name"] in own else INHERITED
    others = tuple(str(each["name"]) for each in origins if role is None or each["id"] != role["id"])
    words = item["description"]
    return Leaf(str(item["name"]), str(words.get(language) or words["en"]), state, others, bool(item["global"]))


def found_in(branches: Sequence[Branch], text: str, only: str = "") -> Sequence[Branch]:
    """Those whose name or description holds a text.

    @param only: those of that state; C{effective}: of either that is.
    """
    wanted = text.strip().lower()

    def fits(each: Leaf) -> bool:
        shown = not only or each.state == only or (only == "effective" and each.effective)
        return shown and (wanted in each.name.lower() or wanted in each.text.lower())

    chosen = [Branch(branch.name, [each for each in branch.leaves if fits(each)]) for branch in branches]
    return [branch for branch in chosen if branch.leaves]
