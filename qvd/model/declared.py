# -*- test-case-name: tests.admin.test_users -*-
"""
The vocabulary in which each resource of the administration is declared, once: its fields, who may see and set them,
what belongs to whom. Routes, validation, queries, authorisation and the API's description are derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import field, frozen

SUPERTENANT, COMMON = 0, -1
"""Tenant of the administrators over all tenants, and the one that owns what all tenants share. As in QVD 4.2."""


class Kind(Enum):
    """What a field's values are."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    ADDRESS = "address"
    OBJECT = "object"
    LIST = "list"


class Creates(Enum):
    """Whether a field is given when an object is made."""

    NEVER = "never"
    MAY = "may"
    MUST = "must"


@frozen(kw_only=True)
class Field:
    """One field of a resource.

    @ivar sql: expression that reads it; empty: it is never read (a password).
    @ivar joins: names in L{Resource.joins} that the expression needs.
    @ivar column: C{table.column} that it is written to; empty: a handler does it, or nobody.
    @ivar see: ACLs, any of which shows it; empty: whoever sees the resource sees it.
    @ivar create_acl: needed, besides that of the creation, to give it when an object is made.
    @ivar update_acl: needed to change it; empty: it cannot be changed.
    @ivar least: smallest number, or shortest text. C{most} likewise.
    @ivar refers: collection whose object of that id must exist, in the caller's scope.
    @ivar superadmin: only for administrators over all tenants.
    @ivar parameters: of C{sql}. A field that has some is for conditions alone.
    @ivar secret: whoever types it does not want it seen.
    """

    name: str
    kind: Kind
    text: str
    sql: str = ""
    joins: tuple[str, ...] = ()
    column: str = ""
    see: tuple[str, ...] = ()
    creates: Creates = Creates.NEVER
    create_acl: str = ""
    update_acl: str = ""
    nullable: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    pattern: str = ""
    refers: str = ""
    filters: bool = True
    sorts: bool = True
    superadmin: bool = False
    parameters: tuple[Any, ...] = ()
    secret: bool = False


@frozen(kw_only=True)
class Resource:
    """One kind of object.

    @ivar name: as in ACLs and events: C{vm}.
    @ivar collection: as in paths: C{vms}.
    @ivar table: that a new object is inserted into; its key is C{id}.
    @ivar keys: for each table that fields are written to, the column that holds the object's id.
    @ivar source: what follows C{FROM}; the base table first, with C{alias}.
    @ivar joins: more of that, by name, in the order in which they can stand.
    @ivar tenant: expression of the tenant's id; empty: the objects belong to no tenant.
    @ivar tenant_column: column of C{table} for a new object's tenant; empty: a trigger or a handler writes it.
    @ivar shared: objects of the common tenant are seen by everybody.
    @ivar read: ACLs, any of which shows the collection.
    @ivar superadmin: only administrators over all tenants, where there are several, may change these.
    @ivar superadmin_reads: the same for reading.
    @ivar known_by: field that people know an object by.
    @ivar columns: fields that lists show unless somebody chose others; empty: the first ones.
    @ivar if_match: whether a change must name the version that it is meant for.
    """

    name: str
    collection: str
    title: str
    table: str
    alias: str
    source: str
    keys: Mapping[str, str]
    fields: tuple[Field, ...]
    read: tuple[str, ...]
    create_acl: str = ""
    delete_acl: str = ""
    joins: Mapping[str, str] = field(factory=dict)
    tenant: str = ""
    tenant_column: str = "tenant_id"
    shared: bool = False
    superadmin: bool = False
    superadmin_reads: bool = False
    if_match: bool = False
    known_by: str = "name"
    columns: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Expression of the id."""
        return f"{self.alias}.id"

    def get(self, name: str) -> Field | None:
        """The field of that name."""
        return next((each for each in self.fields if each.name == name), None)


@frozen
class Scope:
    """Whose objects a call is about.

    @ivar tenant_id: L{None}: those of all tenants.
    """

    tenant_id: int | None

    def includes(self, tenant_id: int | None) -> bool:
        """@param tenant_id: of an object; L{None}: it belongs to no tenant."""
        return self.tenant_id is None or tenant_id == self.tenant_id


@frozen
class Principal:
    """Who calls.

    @ivar superadmin: over all tenants, and there are several.
    @ivar multitenant: how the installation is run.
    @ivar acls: what they may do, of roles, masks and the token's scopes together.
    @ivar session: hash of the session or token, by which it is told from others; no secret.
    @ivar by_token: called with an API token: there is no cookie that a foreign page could use.
    @ivar fresh: the password was given lately.
    @ivar must_change_password: it was a one-time secret; until there is another, nothing else can be done.
    """

    administrator_id: int
    name: str
    tenant_id: int
    tenant_name: str
    superadmin: bool
    multitenant: bool
    acls: frozenset[str]
    session: str
    by_token: bool = False
    fresh: bool = False
    must_change_password: bool = False
    language: str = "auto"
    page_size: int = 50

    @property
    def scope(self) -> Scope:
        return Scope(None if self.superadmin else self.tenant_id)

    def holds(self, *names: str) -> bool:
        """Any of them."""
        return any(name in self.acls for name in names)


Values = Mapping[str, Any]
"""By field name."""
