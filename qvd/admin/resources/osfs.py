# -*- test-case-name: tests.admin.test_osfs -*-
"""OSFs: what virtual machines are made after; and the tags that lead their VMs to images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qvd.admin.call import Answer, Call
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.queries import LIST_PARAMETERS
from qvd.admin.resources.common import (
    creation_fields,
    description_field,
    id_field,
    properties_field,
    tenant_fields,
    tenant_join,
)
from qvd.admin.resources.images import Images
from qvd.admin.resources.imagetags import AffectedVMs, ImageChoice, Resolved, TagList, set_tag
from qvd.admin.resources.vmlists import vms_of
from qvd.interfaces import ITransaction
from qvd.model.declared import Creates, Field, Kind, Resource
from qvd.model.images import DIState

MIB = 1024**2
DEFAULT_MEMORY = 256 * MIB
TITLE = r"^[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?$"
BYTES_MOST = 2**53 - 1
"""What JSON's readers can hold."""

OSFS = Resource(
    name="osf",
    collection="osfs",
    title="OSFs",
    table="osfs",
    alias="o",
    source="osfs o",
    keys={"osfs": "id"},
    joins=tenant_join("o"),
    tenant="o.tenant_id",
    columns=(
        "name",
        "memory",
        "persistence",
        "hypervisor",
        "number_of_vms",
        "number_of_images",
        "tenant_name",
        "description",
    ),
    read=("osf.see-main.",),
    create_acl="osf.create.",
    delete_acl="osf.delete.",
    if_match=True,
    fields=(
        id_field("o"),
        Field(
            name="name",
            kind=Kind.TEXT,
            text="Of the operating system flavour, unique in its tenant",
            sql="o.name",
            column="osfs.name",
            creates=Creates.MUST,
            update_acl="osf.update.name",
            least=1,
            most=128,
            pattern=TITLE,
        ),
        description_field("osf", "osfs", "o"),
        Field(
            name="memory",
            kind=Kind.INTEGER,
            text="Bytes that each of its VMs has",
            sql="o.memory",
            column="osfs.memory",
            see=("osf.see.memory",),
            creates=Creates.MAY,
            create_acl="osf.create.memory",
            update_acl="osf.update.memory",
            least=MIB,
            most=BYTES_MOST,
        ),
        Field(
            name="cpus",
            kind=Kind.NUMBER,
            text="Processors that each of its VMs may keep busy; null: the node's default",
            sql="o.cpus",
            column="osfs.cpus",
            see=("osf.see.memory",),
            creates=Creates.MAY,
            create_acl="osf.create.memory",
            update_acl="osf.update.memory",
            nullable=True,
            least=0.01,
        ),
        Field(
            name="user_storage_size",
            kind=Kind.INTEGER,
            text="Bytes for the home of each of its VMs; null: the node's default",
            sql="o.user_storage_size",
            column="osfs.user_storage_size",
            see=("osf.see.user-storage",),
            creates=Creates.MAY,
            create_acl="osf.create.user-storage",
            update_acl="osf.update.user-storage",
            nullable=True,
            least=MIB,
            most=BYTES_MOST,
        ),
        Field(
            name="persistence",
            kind=Kind.TEXT,
            text="What a VM's next run finds of the one before",
            sql="o.persistence",
            column="osfs.persistence",
            see=("osf.see.overlay",),
            creates=Creates.MAY,
            create_acl="osf.create.overlay",
            update_acl="osf.update.overlay",
            choices=("nothing", "home", "everything"),
        ),
        Field(
            name="hypervisor",
            kind=Kind.TEXT,
            text="Driver that its VMs need; null: any",
            sql="o.hypervisor",
            column="osfs.hypervisor",
            see=("osf.see.overlay",),
            creates=Creates.MAY,
            create_acl="osf.create.overlay",
            update_acl="osf.update.overlay",
            nullable=True,
            choices=("sandbox", "lxc", "kvm"),
        ),
        Field(
            name="is_application",
            kind=Kind.BOOLEAN,
            text="Whether clients show it as an application instead of a desktop",
            sql="o.is_application",
            column="osfs.is_application",
            see=("osf.see.application",),
            creates=Creates.MAY,
            create_acl="osf.update.application",
            update_acl="osf.update.application",
        ),
        Field(
            name="number_of_vms",
            kind=Kind.INTEGER,
            text="VMs that are made after it",
            sql="(SELECT count(*) FROM vms c WHERE c.osf_id = o.id)",
            see=("osf.see.vms-info",),
            filters=False,
            sorts=False,
        ),
        Field(
            name="number_of_images",
            kind=Kind.INTEGER,
            text="Images that it has",
            sql="(SELECT count(*) FROM dis c WHERE c.osf_id = o.id)",
            see=("osf.see.dis-info",),
            filters=False,
            sorts=False,
        ),
        properties_field("osf"),
        *creation_fields("osf", "o"),
        *tenant_fields("o"),
    ),
)


class Osfs(Collection):
    """OSFs."""

    resource = OSFS

    async def check_creation(self, call: Call, tx: ITransaction, tenant_id: int | None, values: dict[str, Any]) -> None:
        values.setdefault("memory", DEFAULT_MEMORY)

    async def created(self, call: Call, tx: ITransaction, object_id: int, values: Mapping[str, Any]) -> None:
        await tx.execute("UPDATE osfs SET created_by = %s WHERE id = %s", (call.principal.name, object_id))

    @property
    def of_images(self) -> Images:
        """The collection of images."""
        images = self.peers["images"]
        assert isinstance(images, Images)
        return images

    def more_endpoints(self) -> Sequence[Endpoint]:
        return [
            vms_of(self, "osf_id"),
            Endpoint(
                method="GET",
                path="/osfs/{id}/images",
                action="osf.images",
                need=acl("osf.see.di-list", "di.see-main."),
                handler=self.images,
                summary="OSFs: the images of one",
                answers={200: self.of_images.page_type},
                parameters=LIST_PARAMETERS,
                open_query=True,
                tag="osfs",
            ),
            Endpoint(
                method="GET",
                path="/osfs/{id}/tags",
                action="osf.tags",
                need=acl("vm.create.", "vm.update.di-tag", "di.see.tags", "osf.see.di-list-tags"),
                handler=self.tags,
                summary="OSFs: the tags of one, and where they lead",
                answers={200: TagList},
                tag="osfs",
            ),
            Endpoint(
                method="PUT",
                path="/osfs/{id}/tags/{tag}",
                action="osf.set_tag",
                need=acl("di.update.tags", "di.update.default", "osf.see.di-list-default-update"),
                handler=self.put_tag,
                summary="OSFs: have a tag lead to another image",
                body=ImageChoice,
                answers={200: AffectedVMs},
                tag="osfs",
            ),
            Endpoint(
                method="GET",
                path="/osfs/{id}/tags/{tag}/resolution",
                action="osf.resolve_tag",
                need=acl("vm.see.di"),
                handler=self.resolution,
                summary="OSFs: which image a VM with the tag would start from, and why it would not",
                answers={200: Resolved},
                tag="osfs",
            ),
        ]

    async def images(self, call: Call) -> Answer:
        """Those of one OSF, as a list of images."""
        await self.find(call, call.number())
        return await self.of_images.page_of_osf(call)

    async def tags(self, call: Call) -> Answer:
        await self.find(call, call.number())
        rows = await call.services.database.fetch(
            "SELECT g.tag, g.fixed, g.di_id AS image_id, d.version, d.state, d.blocked FROM di_tags g"
            " JOIN dis d ON d.id = g.di_id WHERE g.osf_id = %s ORDER BY g.tag",
            (call.number(),),
        )
        return Answer(200, {"items": [dict(row) for row in rows]})

    async def put_tag(self, call: Call) -> Answer:
        """Without the image's id in the path, so that one need not know which image had the tag."""
        return await set_tag(self.of_images, call, call.body.image_id, call.path["tag"], osf_id=call.number())

    async def resolution(self, call: Call) -> Answer:
        await self.find(call, call.number())
        found = await call.services.image_tags.resolution(call.number(), call.path["tag"], call.services.database)
        image = None
        if found.image is not None:
            known = found.image
            image = {
                "id": known.di_id,
                "version": known.version,
                "state": known.state.value,
                "blocked": known.blocked,
                "type": known.type,
            }
        refusal = found.refusal
        return Answer(
            200,
            {
                "tag": found.tag,
                "image": image,
                "usable": refusal is None and found.image is not None and found.image.state is DIState.PUBLISHED,
                "reason": refusal or f"The tag {found.tag!r} leads to it, and it is published",
            },
        )
