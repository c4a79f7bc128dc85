# -*- test-case-name: tests.admin.test_images -*-
"""The declaration of disk images."""

from __future__ import annotations

from qvd.admin.resources.common import (
    blocked_field,
    creation_fields,
    description_field,
    id_field,
    properties_field,
    tenant_fields,
    tenant_join,
)
from qvd.admin.resources.imagetags import LONGEST_TAG, TAG
from qvd.model.declared import Creates, Field, Kind, Resource

STATES = ("new", "generating", "uploading", "verifying", "ready", "published", "retired", "fail")
SEE_TAGS = (
    "di.see.tags",
    "di.see.default",
    "di.see.head",
    "osf.see.di-list-tags",
    "osf.see.di-list-default",
    "osf.see.di-list-head",
    "tenant.see.di-list-tags",
)
TAGS_SQL = (
    "(SELECT coalesce(json_agg(json_build_object('tag', g.tag, 'fixed', g.fixed) ORDER BY g.tag), '[]')"
    " FROM di_tags g WHERE g.di_id = d.id)"
)
PERCENT_SQL = (
    "CASE WHEN d.state IN ('new', 'generating', 'uploading', 'fail') THEN"
    " round(100.0 * d.received / nullif(d.size, 0), 1)::float8 ELSE 100 END"
)


def delay(name: str, what: str) -> Field:
    """Seconds from the publication on."""
    return Field(
        name=name,
        kind=Kind.INTEGER,
        text=f"Seconds after its publication when VMs that run an older image stop, {what}; null: never",
        sql=f"d.{name}",
        column=f"dis.{name}",
        creates=Creates.MAY,
        create_acl="di.update.vms-expiration",
        update_acl="di.update.vms-expiration",
        nullable=True,
        least=0,
        most=366 * 86400,
    )


IMAGES = Resource(
    name="di",
    collection="images",
    title="Images",
    table="dis",
    alias="d",
    source="dis d",
    keys={"dis": "id"},
    joins={**tenant_join("d"), "osf": "JOIN osfs o ON o.id = d.osf_id"},
    tenant="d.tenant_id",
    columns=("osf_name", "version", "state", "blocked", "size", "number_of_running_vms", "published_at", "description"),
    read=("di.see-main.", "osf.see.di-list", "tenant.see.di-list"),
    create_acl="di.create.",
    delete_acl="di.delete.",
    if_match=True,
    fields=(
        id_field("d"),
        Field(
            name="osf_id",
            kind=Kind.INTEGER,
            text="OSF that it belongs to",
            sql="d.osf_id",
            column="dis.osf_id",
            see=("di.see.osf", "osf.see.di-list"),
            creates=Creates.MUST,
            refers="osfs",
        ),
        Field(
            name="osf_name",
            kind=Kind.TEXT,
            text="Name of that OSF",
            sql="o.name",
            joins=("osf",),
            see=("di.see.osf", "osf.see.di-list"),
        ),
        Field(
            name="version",
            kind=Kind.TEXT,
            text="Unique in its OSF, and a tag that stays with the image; by default the day and a number",
            sql="d.version",
            column="dis.version",
            see=("di.see.version",),
            creates=Creates.MAY,
            create_acl="di.create.version",
            least=1,
            most=LONGEST_TAG,
            pattern=TAG,
        ),
        Field(name="path", kind=Kind.TEXT, text="File in the folder of all images", sql="d.path", column="dis.path"),
        description_field("di", "dis", "d"),
        blocked_field("di", "dis", "d", "Whether no VM may start from it"),
        Field(
            name="state",
            kind=Kind.TEXT,
            text="VMs start only from a published one",
            sql="d.state",
            # Written by a creation; what moves it afterwards is no PATCH.
            column="dis.state",
            choices=STATES,
        ),
        Field(name="message", kind=Kind.TEXT, text="Why it failed", sql="d.message", sorts=False),
        Field(
            name="percentage",
            kind=Kind.NUMBER,
            text="How much of the file is there; null: its size is not known",
            sql=PERCENT_SQL,
            nullable=True,
            filters=False,
            sorts=False,
        ),
        Field(
            name="source", kind=Kind.TEXT, text="Where its file comes from; empty: put there by hand", sql="d.source"
        ),
        Field(
            name="size",
            kind=Kind.INTEGER,
            text="Bytes of its file; null: not known",
            sql="d.size",
            nullable=True,
        ),
        Field(
            name="checksum",
            kind=Kind.TEXT,
            text="SHA-256 of its file, in hexadecimal digits; null: not known",
            sql="d.checksum",
            nullable=True,
        ),
        Field(
            name="type",
            kind=Kind.TEXT,
            text="Driver that it is for; null: not known",
            sql="d.type",
            nullable=True,
            choices=("sandbox", "lxc", "kvm"),
        ),
        Field(
            name="tags",
            kind=Kind.LIST,
            text="Tags that lead to it, and whether each is fixed; in a creation, those that it takes over later",
            sql=TAGS_SQL,
            see=SEE_TAGS,
            creates=Creates.MAY,
            create_acl="di.create.tags",
            filters=False,
            sorts=False,
        ),
        Field(
            name="future_tags",
            kind=Kind.LIST,
            text="Tags that it takes over when it is published",
            sql="d.future_tags",
            see=SEE_TAGS,
            filters=False,
            sorts=False,
        ),
        Field(
            name="default",
            kind=Kind.BOOLEAN,
            text="In a creation: whether it takes over the tag default when it is published",
            creates=Creates.MAY,
            create_acl="di.create.default",
            filters=False,
            sorts=False,
        ),
        Field(
            name="published_at",
            kind=Kind.TIME,
            text="When it was published; null: it is not",
            sql="d.published_at",
            nullable=True,
        ),
        Field(
            name="auto_publish",
            kind=Kind.BOOLEAN,
            text="Whether it is published as soon as its file is whole and verified",
            sql="d.auto_publish",
            column="dis.auto_publish",
            creates=Creates.MAY,
            create_acl="di.update.auto-publish",
            update_acl="di.update.auto-publish",
        ),
        delay("expire_soft_after", "as soon as nobody is connected"),
        delay("expire_hard_after", "whoever is connected"),
        Field(
            name="number_of_running_vms",
            kind=Kind.INTEGER,
            text="VMs that run from it now",
            sql="(SELECT count(*) FROM vm_runtimes c WHERE c.current_di_id = d.id)",
            see=("di.see.vm-list",),
            filters=False,
            sorts=False,
        ),
        properties_field("di"),
        *creation_fields("di", "d"),
        *tenant_fields("d"),
    ),
)
