# -*- test-case-name: tests.admin.test_images -*-
"""Tags of images in PostgreSQL, for changes that are one transaction with their audit rows."""

from __future__ import annotations

from collections.abc import Collection

from attrs import frozen
from zope.interface import implementer

from qvd.db.images import IMAGE_COLUMNS, expire, lock_vms, move, resolution_of
from qvd.interfaces import ITransaction, Row
from qvd.interfaces.images import Affected, AffectedVM, IImageTags
from qvd.model.errors import NotFound
from qvd.model.expiry import ExpiryTerms
from qvd.model.images import Resolution

MOST = 500
"""VMs that are named, of those that are affected."""


@implementer(IImageTags)
@frozen
class ImageTags:
    """L{IImageTags} over PostgreSQL."""

    async def lock_vms(self, osf_id: int, tx: ITransaction) -> None:
        await lock_vms(tx, osf_id)

    async def move(self, image_id: int, tag: str, tx: ITransaction) -> None:
        await move(tx, await image_row(image_id, tx), tag)

    async def yield_tags(self, image_id: int, heir: int | None, tx: ITransaction) -> None:
        # The guard of di_tags lets default be moved, not removed.
        await tx.execute(
            "UPDATE di_tags g SET di_id = n.id FROM (SELECT d.id FROM dis d JOIN dis old ON old.osf_id = d.osf_id"
            " WHERE old.id = %(di)s AND d.id <> old.id AND d.state = 'published'"
            " ORDER BY d.id IS NOT DISTINCT FROM %(heir)s DESC, d.published_at DESC, d.id DESC LIMIT 1) n"
            " WHERE g.di_id = %(di)s AND g.tag = 'default'",
            {"di": image_id, "heir": heir},
        )
        if heir is not None:
            await tx.execute(
                "UPDATE di_tags SET di_id = %s WHERE di_id = %s AND NOT fixed AND tag NOT IN ('head', 'default')",
                (heir, image_id),
            )
            return
        await tx.execute(
            "WITH gone AS (DELETE FROM di_tags WHERE di_id = %(di)s AND NOT fixed AND tag NOT IN ('head', 'default')"
            " RETURNING tag) UPDATE dis SET future_tags = ARRAY(SELECT unnest(future_tags) UNION SELECT tag FROM gone)"
            " WHERE id = %(di)s",
            {"di": image_id},
        )

    async def affected(self, image_id: int, tags: Collection[str], tx: ITransaction) -> Affected:
        rows = await tx.fetch(
            "SELECT v.id, v.name, r.vm_state, r.current_di_id, count(*) OVER () AS total FROM vms v"
            " JOIN dis d ON d.osf_id = v.osf_id JOIN vm_runtimes r ON r.vm_id = v.id"
            " LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag"
            " WHERE d.id = %(di)s AND v.di_tag = ANY (%(tags)s) AND (g.di_id IS DISTINCT FROM d.id"
            " OR r.vm_state IN ('starting', 'running') AND r.current_di_id IS DISTINCT FROM d.id)"
            f" ORDER BY v.id LIMIT {MOST}",
            {"di": image_id, "tags": list(tags)},
        )
        vms = [AffectedVM(row["id"], row["name"], row["vm_state"], row["current_di_id"]) for row in rows]
        return Affected(rows[0]["total"] if rows else 0, vms)

    async def expire(self, image_id: int, terms: ExpiryTerms, tx: ITransaction) -> Collection[int]:
        return await expire(tx, await image_row(image_id, tx), terms)

    async def stranded(self, image_id: int, tx: ITransaction) -> str | None:
        row = await tx.fetch_one(
            "SELECT v.name FROM di_tags g JOIN vms v ON v.osf_id = g.osf_id AND v.di_tag = g.tag"
            " WHERE g.di_id = %(di)s AND NOT (g.tag IN ('head', 'default') AND EXISTS (SELECT FROM dis d"
            " WHERE d.osf_id = g.osf_id AND d.id <> %(di)s AND d.state = 'published')) LIMIT 1",
            {"di": image_id},
        )
        return None if row is None else str(row["name"])

    async def resolution(self, osf_id: int, tag: str, tx: ITransaction) -> Resolution | None:
        row = await tx.fetch_one(
            f"SELECT {IMAGE_COLUMNS} FROM (SELECT %(osf)s::integer AS osf_id, %(tag)s::text AS di_tag) v"
            " JOIN osfs o ON o.id = v.osf_id LEFT JOIN di_tags g ON g.osf_id = v.osf_id AND g.tag = v.di_tag"
            " LEFT JOIN dis d ON d.id = g.di_id",
            {"osf": osf_id, "tag": tag},
        )
        return None if row is None else resolution_of(row)


async def image_row(image_id: int, tx: ITransaction) -> Row:
    row = await tx.fetch_one("SELECT id, osf_id, version, state FROM dis WHERE id = %s", (image_id,))
    if row is None:
        raise NotFound("The disk image does not exist")
    return row
