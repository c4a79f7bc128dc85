# -*- test-case-name: tests.contract.test_db_images -*-
"""Disk images: what a tag leads to, which node sees which, publication, and the tags that people move."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.db.rows import MINE
from qvd.interfaces import IDatabase, IHostImages, IImages, ITransaction, Row
from qvd.model.errors import InvalidRequest, NotFound, OwnershipLost
from qvd.model.expiry import ExpiryTerms
from qvd.model.ids import DIId, HostId, VMId
from qvd.model.images import DIState, Image, Resolution
from qvd.model.records import Lease, RegisteredImage

PUBLISHABLE = (DIState.NEW, DIState.READY, DIState.RETIRED)
KEPT_TAGS = ("", "head")

# What L{resolution_of} reads, of a VM C{v} with its OSF C{o}.
IMAGE_COLUMNS = (
    "v.di_tag, o.name AS osf, o.hypervisor AS osf_hypervisor, d.id AS di_id, d.version, d.path, d.state AS di_state,"
    " d.blocked AS di_blocked, d.type"
)
IMAGE_TABLES = "LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag LEFT JOIN dis d ON d.id = g.di_id"


def resolution_of(row: Row) -> Resolution:
    """A row of C{IMAGE_COLUMNS}."""
    if row["di_id"] is None:
        return Resolution(row["osf"], row["di_tag"], None, row["osf_hypervisor"])
    state = DIState(row["di_state"])
    image = Image(DIId(row["di_id"]), row["version"], row["path"], state, row["di_blocked"], row["type"])
    return Resolution(row["osf"], row["di_tag"], image, row["osf_hypervisor"])


async def resolve(tx: ITransaction, vm_id: VMId) -> Resolution:
    """What the VM would start from."""
    row = await tx.fetch_one(
        f"SELECT {IMAGE_COLUMNS} FROM vms v JOIN osfs o ON o.id = v.osf_id {IMAGE_TABLES} WHERE v.id = %s", (vm_id,)
    )
    if row is None:
        raise NotFound("The requested virtual machine does not exist")
    return resolution_of(row)


async def hosts_without(tx: ITransaction, image: Image) -> Collection[HostId]:
    """The nodes that have looked and do not see it. One that boots from the host's own files is everywhere, and a
    node of an older release, which does not look, is not held to lack any."""
    if not image.path:
        return frozenset()
    rows = await tx.fetch(
        "SELECT r.host_id FROM host_runtimes r WHERE r.images_epoch = r.epoch"
        " AND NOT EXISTS (SELECT FROM host_images i WHERE i.host_id = r.host_id AND i.di_id = %s)",
        (image.di_id,),
    )
    return frozenset(HostId(row["host_id"]) for row in rows)


@implementer(IHostImages)
@frozen
class HostImages:
    """L{IHostImages} over PostgreSQL."""

    db: IDatabase

    async def registered(self, lease: Lease) -> Sequence[RegisteredImage]:
        rows = await self.db.fetch(
            "SELECT d.id, d.path, i.di_id IS NOT NULL AND r.images_epoch IS NOT DISTINCT FROM r.epoch AS seen"
            " FROM dis d JOIN host_runtimes r ON r.host_id = %(host)s"
            " LEFT JOIN host_images i ON i.host_id = r.host_id AND i.di_id = d.id WHERE d.path <> '' ORDER BY d.id",
            {"host": lease.host_id},
        )
        return [RegisteredImage(DIId(row["id"]), row["path"], row["seen"]) for row in rows]

    async def publish(self, lease: Lease, seen: Collection[DIId]) -> None:
        async def work(tx: ITransaction) -> None:
            parameters = {"host": lease.host_id, "epoch": lease.epoch, "seen": list(seen)}
            if not await tx.execute(f"UPDATE host_runtimes SET images_epoch = epoch WHERE {MINE}", parameters):
                raise OwnershipLost("The lease of this node is over")
            await tx.execute(
                "DELETE FROM host_images WHERE host_id = %(host)s AND di_id <> ALL (%(seen)s::integer[])", parameters
            )
            # One that was deleted meanwhile is no image any more.
            await tx.execute(
                "INSERT INTO host_images (host_id, di_id) SELECT %(host)s, id FROM dis"
                " WHERE id = ANY (%(seen)s::integer[]) ON CONFLICT DO NOTHING",
                parameters,
            )

        await self.db.transact("publish_images", work)


@implementer(IImages)
@frozen
class Images:
    """L{IImages} over PostgreSQL."""

    db: IDatabase

    async def publish(self, di_id: DIId, tags: Collection[str], terms: ExpiryTerms, cause: str) -> Collection[VMId]:
        async def work(tx: ITransaction) -> Collection[VMId]:
            di = await begin(tx, di_id, cause)
            if DIState(di["state"]) not in PUBLISHABLE:
                raise InvalidRequest(f"The disk image {di['version']!r} is {di['state']}: it cannot be published")
            await lock_vms(tx, di["osf_id"])
            await tx.execute("UPDATE dis SET state = 'published' WHERE id = %s", (di_id,))
            for tag in sorted(set(tags)):
                await move(tx, di, tag)
            return await expire(tx, di, terms)

        return await self.db.transact("publish_image", work)

    async def set_tag(self, di_id: DIId, tag: str, terms: ExpiryTerms, cause: str) -> Collection[VMId]:
        async def work(tx: ITransaction) -> Collection[VMId]:
            di = await begin(tx, di_id, cause)
            if DIState(di["state"]) is not DIState.PUBLISHED:
                raise InvalidRequest(f"The disk image {di['version']!r} is {di['state']}: publish it first")
            await lock_vms(tx, di["osf_id"])
            await move(tx, di, tag)
            return await expire(tx, di, terms)

        return await self.db.transact("set_tag", work)


async def begin(tx: ITransaction, di_id: DIId, cause: str) -> Row:
    """The image's row; C{cause} is for the history."""
    await tx.fetch("SELECT set_config('qvd.cause', %s, true)", (cause,))
    row = await tx.fetch_one("SELECT id, osf_id, version, state FROM dis WHERE id = %s", (di_id,))
    if row is None:
        raise NotFound("The disk image does not exist")
    return row


async def lock_vms(tx: ITransaction, osf_id: int) -> None:
    """No VM of the OSF is claimed while its tags move: each starts from the image of before and is seen by L{expire},
    or from that of after. Locked by id, and before all else, as everywhere."""
    await tx.fetch(
        "SELECT 1 FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id WHERE v.osf_id = %s ORDER BY r.vm_id FOR UPDATE OF r",
        (osf_id,),
    )


async def move(tx: ITransaction, di: Row, tag: str) -> None:
    """Put a tag on the image, wherever it was.

    @raise InvalidRequest: the tag is not one that people move.
    """
    tag = tag.strip()
    held = await tx.fetch_one("SELECT di_id, fixed FROM di_tags WHERE osf_id = %s AND tag = %s", (di["osf_id"], tag))
    if held is not None and held["di_id"] == di["id"]:
        return
    if tag in KEPT_TAGS or (held is not None and held["fixed"]):
        raise InvalidRequest(f"The tag {tag!r} cannot be moved: it is kept by QVD itself, or another image's version")
    await tx.execute(
        "INSERT INTO di_tags (osf_id, tag, di_id) VALUES (%(osf)s, %(tag)s, %(di)s)"
        if held is None
        else "UPDATE di_tags SET di_id = %(di)s WHERE osf_id = %(osf)s AND tag = %(tag)s",
        {"osf": di["osf_id"], "tag": tag, "di": di["id"]},
    )


async def expire(tx: ITransaction, di: Row, terms: ExpiryTerms) -> Collection[VMId]:
    """Give dates to the VMs that run another image than this one, to which their tag leads now; return which. A date
    that comes sooner already stays."""
    if terms.soft is None and terms.hard is None:
        return ()
    rows = await tx.fetch(
        "UPDATE vm_runtimes r SET"
        " vm_expiration_soft = least(vm_expiration_soft, now() + %(soft)s * interval '1 second'),"
        " vm_expiration_hard = least(vm_expiration_hard, now() + %(hard)s * interval '1 second')"
        " FROM vms v JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag"
        " WHERE v.id = r.vm_id AND g.di_id = %(di)s AND r.vm_state IN ('starting', 'running')"
        " AND r.current_di_id <> %(di)s RETURNING r.vm_id",
        {"soft": terms.soft, "hard": terms.hard, "di": di["id"]},
    )
    return tuple(sorted(VMId(row["vm_id"]) for row in rows))
