# -*- test-case-name: tests.unit.test_model_acls -*-
"""
The roles that come with the product: those of QVD 4.2 with its numbers and names, to which our own permissions are
added where they do not make a role more powerful than it was meant to be; and three more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from qvd.model.acls import matching
from qvd.model.roles import Graph, Role

DISGUISED = "osf.see.di-list-default-update"
"""Is called after seeing, and changes something."""
CAPABILITIES = ("Reader", "Operator", "Creator", "Updater", "Eraser", "Manager")
SCOPES = (
    *("Users", "VMs", "Nodes", "OSFs", "Images", "Administrators", "Roles", "Tenants", "Views"),
    *("QVD Config", "WAT Config", "QVD", "WAT", "Logs"),
)


@frozen
class Shipped:
    """A role that comes with the product.

    @ivar own: patterns of its own permissions.
    @ivar but: patterns of those that the patterns before do not mean.
    @ivar excluded: patterns of exclusions.
    @ivar assignable: meant for people; the others are what these are made of.
    """

    role_id: int
    name: str
    parents: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    assignable: bool = False


def parts(scope: str, *capabilities: str) -> tuple[str, ...]:
    return tuple(f"{scope} {capability}" for capability in capabilities or CAPABILITIES[:5])


def across(capability: str) -> tuple[str, ...]:
    """What the aggregates are made of."""
    return tuple(f"{scope} {capability}" for scope in ("OSFs", "Users", "VMs", "Images"))


ALL = (
    Shipped(1, "Administrators Creator", own=("administrator.create.*",)),
    Shipped(2, "Administrators Eraser", own=("administrator.delete.",)),
    Shipped(
        3, "Administrators Manager", parts("Administrators"), own=("session.manage.administrators", "token.manage.")
    ),
    Shipped(4, "Administrators Operator", own=("administrator.update.assign-role", "administrator.update.block")),
    Shipped(5, "Administrators Reader", own=("administrator.see*",)),
    Shipped(
        6,
        "Administrators Updater",
        own=tuple(f"administrator.update.{word}" for word in ("description", "language", "name", "password")),
    ),
    Shipped(7, "Images Creator", own=("di.create.*",), but=("di.create.staging-delete",)),
    Shipped(8, "Images Eraser", own=("di.delete.", "di.create.staging-delete")),
    Shipped(9, "Images Manager", parts("Images")),
    Shipped(10, "Images Operator", own=("di.update.block", "di.update.default", "di.update.verify")),
    Shipped(11, "Images Reader", own=("di.see*", "di.stats.*")),
    Shipped(
        12, "Images Updater", own=("di.update.*",), but=("di.update.block", "di.update.default", "di.update.verify")
    ),
    Shipped(13, "Logs Manager", own=("log.see*", "log.export.")),
    Shipped(14, "Master", ("QVD Manager", "WAT Manager")),
    Shipped(15, "Nodes Creator", own=("host.create.*",)),
    Shipped(16, "Nodes Eraser", own=("host.delete.",)),
    Shipped(17, "Nodes Manager", parts("Nodes"), own=("host.update.declare-dead",)),
    Shipped(
        18,
        "Nodes Operator",
        own=("host.update.block", "host.update.stop-vms", "host.update.drain", "host.update.state"),
    ),
    Shipped(19, "Nodes Reader", own=("host.see*", "host.stats.*")),
    Shipped(
        20,
        "Nodes Updater",
        own=tuple(f"host.update.{word}" for word in ("address", "description", "name", "properties", "roles")),
    ),
    Shipped(
        21,
        "Operator L1",
        ("QVD Reader",),
        own=("osf.see.vm-list-state",),
        excluded=("vm.update.name",),
        assignable=True,
    ),
    Shipped(22, "Operator L2", ("QVD Operator", "Operator L1"), assignable=True),
    Shipped(
        23,
        "Operator L3",
        ("Nodes Manager", "Operator L2", "QVD Eraser", "QVD Creator", "QVD Updater"),
        assignable=True,
    ),
    Shipped(24, "OSFs Creator", own=("osf.create.*",)),
    Shipped(25, "OSFs Eraser", own=("osf.delete.",)),
    Shipped(26, "OSFs Manager", parts("OSFs")),
    Shipped(27, "OSFs Operator", own=(DISGUISED, "osf.see.vm-list-state")),
    Shipped(28, "OSFs Reader", own=("osf.see*", "osf.stats.*"), but=(DISGUISED,)),
    Shipped(29, "OSFs Updater", own=("osf.update.*",)),
    Shipped(30, "QVD Config Manager", own=("config.qvd.", "config.tls.", "property.*")),
    Shipped(31, "QVD Creator", across("Creator")),
    Shipped(32, "QVD Eraser", across("Eraser")),
    Shipped(33, "QVD Manager", (*across("Manager"), "QVD Config Manager"), own=("job.*",)),
    Shipped(34, "QVD Operator", across("Operator"), own=("job.cancel.",)),
    Shipped(35, "QVD Reader", across("Reader"), own=("job.see-main.",)),
    Shipped(36, "QVD Updater", across("Updater")),
    Shipped(37, "Roles Creator", own=("role.create.",)),
    Shipped(38, "Roles Eraser", own=("role.delete.",)),
    Shipped(39, "Roles Manager", parts("Roles")),
    Shipped(40, "Roles Operator", own=("role.update.assign-*",)),
    Shipped(41, "Roles Reader", own=("role.see*",)),
    Shipped(42, "Roles Updater", own=("role.update.description", "role.update.name")),
    Shipped(
        43,
        "Root",
        ("Total Master",),
        own=("tenant.update.language", "tenant.update.name", "user.see.vm-list", "log.manage."),
        assignable=True,
    ),
    Shipped(44, "Tenants Creator", own=("tenant.create.",)),
    Shipped(45, "Tenants Eraser", own=("tenant.delete.", "tenant.purge.")),
    Shipped(46, "Tenants Manager", parts("Tenants")),
    Shipped(47, "Tenants Operator", own=("tenant.update.block",)),
    Shipped(48, "Tenants Reader", own=("tenant.see*",)),
    Shipped(49, "Tenants Updater", own=("tenant.update.*",), but=("tenant.update.block",)),
    Shipped(50, "Total Master", ("Nodes Manager", "Master", "Tenants Manager")),
    Shipped(51, "Users Creator", own=("user.create.*",)),
    Shipped(52, "Users Eraser", own=("user.delete.",)),
    Shipped(53, "Users Manager", parts("Users"), own=("session.manage.users",)),
    Shipped(54, "Users Operator", own=("user.update.block",)),
    Shipped(55, "Users Reader", own=("user.see*", "user.stats.*")),
    Shipped(56, "Users Updater", own=("user.update.*",), but=("user.update.block",)),
    Shipped(57, "Views Manager", parts("Views", "Operator", "Reader")),
    Shipped(58, "Views Operator", own=("views.update.*",)),
    Shipped(59, "Views Reader", own=("views.see-main.",)),
    Shipped(60, "VMs Creator", own=("vm.create.*",)),
    Shipped(61, "VMs Eraser", own=("vm.delete.",)),
    # The console is the machine itself: nobody who could only watch screens had that.
    Shipped(62, "VMs Manager", parts("VMs"), own=("vm.console.",)),
    Shipped(
        63,
        "VMs Operator",
        own=(
            *(f"vm.update.{word}" for word in ("block", "disconnect-user", "state", "force-stop", "message")),
            "vm.spy.*",
        ),
    ),
    Shipped(64, "VMs Reader", own=("vm.see*", "vm.stats.*")),
    Shipped(
        65,
        "VMs Updater",
        own=("vm.update.*",),
        but=tuple(f"vm.update.{word}" for word in ("block", "disconnect-user", "state", "force-stop", "message")),
    ),
    Shipped(66, "WAT Config Manager", own=("config.wat.",)),
    Shipped(
        67,
        "WAT Manager",
        ("Logs Manager", "Views Manager", "Roles Manager", "WAT Config Manager", "Administrators Manager"),
    ),
    Shipped(68, "Tenant owner", ("Master",), excluded=("config.tls.",), assignable=True),
    Shipped(69, "Auditor", own=("*.see*", "log.*"), but=(DISGUISED,), assignable=True),
    Shipped(
        70,
        "Helpdesk",
        ("Users Reader", "VMs Reader"),
        own=(
            "user.update.password",
            "user.update.block",
            "vm.update.state",
            "vm.update.disconnect-user",
            "vm.update.block",
            "vm.spy.",
        ),
        assignable=True,
    ),
)
BY_NAME: Mapping[str, Shipped] = {role.name: role for role in ALL}
ROOT, TENANT_OWNER = BY_NAME["Root"].role_id, BY_NAME["Tenant owner"].role_id


def expanded(patterns: Iterable[str]) -> frozenset[str]:
    """@raise ValueError: a pattern means nothing: it is mistyped."""
    found: set[str] = set()
    for pattern in patterns:
        names = matching(pattern)
        if not names:
            raise ValueError(f"no permission is called {pattern}")
        found |= names
    return frozenset(found)


def role_of(shipped: Shipped) -> Role:
    return Role(
        shipped.role_id,
        expanded(shipped.own) - expanded(shipped.but),
        expanded(shipped.excluded),
        frozenset(BY_NAME[name].role_id for name in shipped.parents),
    )


GRAPH: Graph = {shipped.role_id: role_of(shipped) for shipped in ALL}
"""Of all of them."""


def matrix() -> Mapping[str, Mapping[str, int]]:
    """For each scope, by capability, the role that is the two."""
    return {
        scope: {
            capability: BY_NAME[f"{scope} {capability}"].role_id
            for capability in CAPABILITIES
            if f"{scope} {capability}" in BY_NAME
        }
        for scope in SCOPES
    }
