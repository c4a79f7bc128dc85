# -*- test-case-name: tests.admin.test_vms -*-
"""What VMs are made of."""

from __future__ import annotations

from attrs import evolve

from qvd.admin.resources.common import (
    creation_fields,
    description_field,
    id_field,
    properties_field,
    tenant_fields,
    tenant_join,
)
from qvd.model.declared import Creates, Field, Kind, Resource
from qvd.model.vm import VMState

OWNERS = ("user", "osf", "di", "host", "tenant")
"""Kinds of objects that show the VMs that belong to them."""
LISTS = tuple(f"{kind}.see.vm-list" for kind in OWNERS)


def listed(what: str) -> tuple[str, ...]:
    """Permissions that show something of VMs: that on VMs, and those on the lists of VMs of other objects."""
    return (f"vm.see.{what}", *(f"{each}-{what}" for each in LISTS))


def runtime(name: str, kind: Kind, text: str, sql: str, join: str = "runtime", nullable: bool = False) -> Field:
    """What only its node knows of it."""
    joins = ("runtime",) if join == "runtime" else ("runtime", join)
    return Field(name=name, kind=kind, text=text, sql=sql, joins=joins, see=("vm.see.runtime",), nullable=nullable)


def image(name: str, text: str, sql: str, joins: tuple[str, ...], kind: Kind = Kind.TEXT) -> Field:
    """Of a disk image."""
    see = "vm.see.di-version" if "version" in name else "vm.see.di"
    return Field(name=name, kind=kind, text=text, sql=sql, joins=joins, see=(see,), nullable=True)


def expiration(kind: str, text: str) -> Field:
    """One of the two dates."""
    column = f"vm_expiration_{kind}"
    return Field(
        name=f"expiration_{kind}",
        kind=Kind.TIME,
        text=text,
        sql=f"r.{column}",
        joins=("runtime",),
        column=f"vm_runtimes.{column}",
        see=listed("expiration"),
        update_acl="vm.update.expiration",
        nullable=True,
    )


IDLE = """CASE WHEN r.vm_state = 'running' AND coalesce(s.state, 'disconnected') = 'disconnected' THEN greatest(r.since,
    (SELECT x.ended_at FROM sessions x WHERE x.vm_id = v.id ORDER BY x.started_at DESC LIMIT 1)) END"""
"""A user's last session before this run does not count: the run is younger."""
RUNTIME = (
    runtime("phase", Kind.TEXT, "What its node is doing with it", "r.phase"),
    runtime("detail", Kind.TEXT, "The same, in words for its user", "r.detail"),
    runtime("since", Kind.TIME, "When it entered its state", "r.since"),
    runtime("last_error", Kind.TEXT, "Why its last start or run failed", "r.last_error", nullable=True),
    runtime("desired_state", Kind.TEXT, "What somebody wants it to be: running or stopped", "r.desired_state"),
    runtime("ordered_at", Kind.TIME, "When that was ordered", "r.ordered_at"),
    runtime(
        "order_pending",
        Kind.BOOLEAN,
        "Whether no node has taken the order up yet",
        "(r.generation > r.acked_generation)",
    ),
    runtime("restarting", Kind.BOOLEAN, "Whether it is started again once it is stopped", "r.restart"),
    runtime("failures", Kind.INTEGER, "Failures in a row", "r.failures"),
    runtime("retry_at", Kind.TIME, "It is not started before", "r.retry_at", nullable=True),
    runtime("last_answer", Kind.TIME, "When its agent answered last", "r.vma_ok_ts", nullable=True),
    runtime(
        "client_address", Kind.TEXT, "Where its user is connected from", "s.client_address", "session", nullable=True
    ),
    runtime("session_since", Kind.TIME, "When the present session began", "s.started_at", "session", nullable=True),
    runtime(
        "idle_since",
        Kind.TIME,
        "Since when it runs with nobody connected; null: somebody is, or it does not run",
        IDLE,
        "session",
        nullable=True,
    ),
)

VMS = Resource(
    name="vm",
    collection="vms",
    title="VMs",
    table="vms",
    alias="v",
    source="vms v",
    keys={"vms": "id", "vm_runtimes": "vm_id"},
    joins={
        "runtime": "JOIN vm_runtimes r ON r.vm_id = v.id",
        "user": "JOIN users u ON u.id = v.user_id",
        "osf": "JOIN osfs o ON o.id = v.osf_id",
        "host": "LEFT JOIN hosts h ON h.id = r.host_id",
        "session": "LEFT JOIN sessions s ON s.id = r.session_id",
        "tag": "LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag",
        "image": "LEFT JOIN dis d ON d.id = g.di_id",
        "used": "LEFT JOIN dis e ON e.id = r.current_di_id",
        **tenant_join("v"),
    },
    tenant="v.tenant_id",
    tenant_column="",
    columns=("name", "user_name", "osf_name", "di_tag", "state", "user_state", "host_name", "blocked"),
    read=("vm.see-main.", *LISTS),
    create_acl="vm.create.",
    delete_acl="vm.delete.",
    fields=(
        id_field("v"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="What its user chooses it by; the user has one of that name only",
            sql="v.name",
            column="vms.name",
            creates=Creates.MUST,
            update_acl="vm.update.name",
            least=1,
            most=64,
            pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]*$",
        ),
        description_field("vm", "vms", "v"),
        Field(
            name="user_id",
            kind=Kind.INTEGER,
            text="Whose desktop it is; another one's only while it is stopped",
            sql="v.user_id",
            column="vms.user_id",
            see=("vm.see.user",),
            creates=Creates.MUST,
            update_acl="vm.update.owner",
            refers="users",
        ),
        Field(
            name="user_name",
            kind=Kind.TEXT,
            text="Name of that user",
            sql="u.login",
            joins=("user",),
            see=("vm.see.user",),
        ),
        Field(
            name="osf_id",
            kind=Kind.INTEGER,
            text="OSF that says what it boots and gets; another one only while it is stopped",
            sql="v.osf_id",
            column="vms.osf_id",
            see=("vm.see.osf",),
            creates=Creates.MUST,
            update_acl="vm.update.osf",
            refers="osfs",
        ),
        Field(
            name="osf_name", kind=Kind.TEXT, text="Name of that OSF", sql="o.name", joins=("osf",), see=("vm.see.osf",)
        ),
        Field(
            name="di_tag",
            kind=Kind.TEXT,
            text="Tag of the OSF's images that it starts from",
            sql="v.di_tag",
            column="vms.di_tag",
            see=("vm.see.di-tag",),
            creates=Creates.MAY,
            create_acl="vm.create.di-tag",
            update_acl="vm.update.di-tag",
            least=1,
            most=128,
        ),
        image("di_id", "Image that the tag leads to", "g.di_id", ("tag",), Kind.INTEGER),
        image("di_name", "File of that image", "d.path", ("tag", "image")),
        image("di_version", "Version of that image", "d.version", ("tag", "image")),
        image("di_id_in_use", "Image that it runs", "r.current_di_id", ("runtime",), Kind.INTEGER),
        image("di_name_in_use", "File of the image that it runs", "e.path", ("runtime", "used")),
        image("di_version_in_use", "Version of the image that it runs", "e.version", ("runtime", "used")),
        Field(
            name="blocked",
            kind=Kind.BOOLEAN,
            text="Whether its user may not connect",
            sql="r.blocked",
            joins=("runtime",),
            column="vm_runtimes.blocked",
            see=listed("block"),
            creates=Creates.MAY,
            create_acl="vm.create.block",
            update_acl="vm.update.block",
        ),
        Field(
            name="state",
            kind=Kind.TEXT,
            text="What its node saw last",
            sql="r.vm_state",
            joins=("runtime",),
            see=listed("state"),
            choices=tuple(state.value for state in VMState),
        ),
        Field(
            name="user_state",
            kind=Kind.TEXT,
            text="Whether its user is connected",
            sql="coalesce(s.state, 'disconnected')",
            joins=("runtime", "session"),
            see=listed("user-state"),
            choices=("disconnected", "connecting", "connected"),
        ),
        Field(
            name="host_id",
            kind=Kind.INTEGER,
            text="Node that it is on, or is to start on",
            sql="r.host_id",
            joins=("runtime",),
            see=("vm.see.host",),
            nullable=True,
        ),
        Field(
            name="host_name",
            kind=Kind.TEXT,
            text="Name of that node",
            sql="h.name",
            joins=("runtime", "host"),
            see=("vm.see.host",),
            nullable=True,
        ),
        Field(
            name="ip",
            kind=Kind.ADDRESS,
            text="In the VM network; another one only while it is stopped, none given: a free one",
            sql="v.ip",
            column="vms.ip",
            see=("vm.see.ip", "vm.see.next-boot-ip"),
            creates=Creates.MAY,
            create_acl="vm.create.ip",
            update_acl="vm.update.ip",
            nullable=True,
        ),
        Field(
            name="ip_in_use",
            kind=Kind.TEXT,
            text="Where its agent listens while it runs",
            sql="r.vm_address",
            joins=("runtime",),
            see=("vm.see.ip",),
            nullable=True,
        ),
        Field(
            name="mac",
            kind=Kind.TEXT,
            text="Made of its number",
            sql="v.mac::text",
            see=("vm.see.mac",),
        ),
        expiration("soft", "From then on it stops as soon as nobody is connected; for the present run only"),
        expiration("hard", "It stops then; for the present run only"),
        *RUNTIME,
        properties_field("vm"),
        *creation_fields("vm", "v"),
        evolve(tenant_fields("v")[0], column="vms.tenant_id", text="Tenant of its user"),
        *tenant_fields("v")[1:],
    ),
)
