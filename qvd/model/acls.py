# -*- test-case-name: tests.unit.test_model_acls -*-
"""All permissions that there are, and for whom some of them do not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import frozen

from qvd.model.acl_names import OURS, QVD_4_2, names_of
from qvd.model.acl_words import describe
from qvd.model.declared import COMMON, SUPERTENANT

GLOBAL = re.compile(r"(host|tenant)\..*|config\.tls\.|log\.manage\.")
"""What takes effect beyond one tenant."""
TENANTS = "tenant."
"""What begins so does not exist for whoever belongs to a tenant."""


@frozen
class Acl:
    """A permission.

    @ivar reaches_all: its effect goes beyond one tenant.
    @ivar original: it is one of QVD 4.2.
    @ivar english: what it permits. C{spanish} likewise.
    """

    name: str
    reaches_all: bool
    original: bool
    english: str
    spanish: str

    @property
    def domain(self) -> str:
        """Kind of object."""
        return self.name.split(".")[0]

    @property
    def verb(self) -> str:
        return self.name.split(".")[1]

    @property
    def detail(self) -> str:
        """What of the object; empty: the verb as such."""
        return self.name.split(".")[2]


def _catalogue() -> Mapping[str, Acl]:
    original, ours = names_of(QVD_4_2), names_of(OURS)
    return {
        name: Acl(name, GLOBAL.fullmatch(name) is not None, name in original, *describe(name))
        for name in sorted([*original, *ours])
    }


CATALOGUE: Mapping[str, Acl] = _catalogue()
"""By name, in its order."""


def matching(pattern: str) -> frozenset[str]:
    """The names that a pattern stands for, in which C{*} is any text."""
    first, *others = pattern.split("*")
    if not others:
        return frozenset({pattern} & CATALOGUE.keys())
    *between, last = others
    # What is left takes at least a letter of a name each, however many stars somebody writes.
    parts = [part for part in between if part]
    return frozenset(name for name in CATALOGUE if _matches(name, first, parts, last))


def _matches(name: str, first: str, between: Iterable[str], last: str) -> bool:
    """In one pass, whatever somebody made up: a regular expression could take for ever."""
    if not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in between:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


def exists_for(name: str, superadmin: bool) -> bool:
    """Whether a permission exists for somebody.

    @param superadmin: over all tenants, where there are several. Others do not learn that there are tenants.
    """
    return superadmin or not name.startswith(TENANTS)


def operative(names: Iterable[str], superadmin: bool) -> frozenset[str]:
    """What is left of an administrator's permissions.

    Those that reach beyond a tenant stay: the operations themselves want an administrator over all tenants, where there
    are several. The ones about logs, which QVD 4.2 masks for everybody, are in effect.
    """
    return frozenset(name for name in names if exists_for(name, superadmin))


def ever_operative(names: Iterable[str], tenant_id: int) -> frozenset[str]:
    """What somebody of a tenant could have of them however the installation is run: what a grant is measured by."""
    return operative(names, tenant_id in (SUPERTENANT, COMMON))
