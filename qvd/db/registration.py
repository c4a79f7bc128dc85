# -*- test-case-name: tests.contract.test_images_register -*-
"""How a file becomes an image of the farm: for C{qvd-image}, in one go and without a reactor."""

from __future__ import annotations

import re
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, TypeVar

from attrs import frozen
from psycopg2.extras import RealDictCursor
from zope.interface import implementer

from qvd.db.images import begin, lock_vms, move
from qvd.db.migrate import connected
from qvd.interfaces import ITransaction, Parameters, Row
from qvd.model.errors import Conflict, InvalidRequest, NotFound
from qvd.model.ids import DIId
from qvd.model.images import DIState, wrong_type

T = TypeVar("T")
NAMED = re.compile(r"(?P<tenant>[^/]+)/(?P<name>.+)")


@frozen
class NewImage:
    """A file in the storage of images.

    @ivar path: its name there.
    @ivar type: the driver that it is for.
    @ivar size: bytes.
    @ivar checksum: SHA-256, in hexadecimal digits.
    """

    path: str
    version: str
    type: str
    size: int
    checksum: str


@frozen
class Registered:
    """@ivar osf: its name, after that of its tenant."""

    di_id: DIId
    osf: str


def register(dsn: str, osf: str, image: NewImage, cause: str, tags: Collection[str] | None) -> Registered:
    """Make the image known, all of it or nothing.

    @param osf: its number, or the names of tenant and OSF with a slash between.
    @param tags: publish it, and move these tags to it; L{None}: it is C{ready} and no more.
    @raise NotFound: there is no such OSF.
    @raise InvalidRequest: the image is not for the OSF's hypervisor, or a tag is not one to be moved.
    @raise Conflict: the version, or the file, is registered already.
    @raise QVDError: the database refuses or is away.
    """
    with connected(dsn) as connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
        tx = BlockingTransaction(cursor)
        done = finish(insert(tx, osf, image, cause))
        if tags is not None:
            finish(publish(tx, done.di_id, tags, cause))
        connection.commit()
    return done


async def insert(tx: ITransaction, osf: str, image: NewImage, cause: str) -> Registered:
    """Its row. The OSF stays as it was read, until the end."""
    await tx.fetch("SELECT set_config('qvd.cause', %s, true)", (cause,))
    row = await find_osf(tx, osf)
    name = f"{row['tenant']}/{row['name']}"
    refusal = wrong_type(f"The image {image.path!r}", image.type, name, row["hypervisor"])
    if refusal is not None:
        raise InvalidRequest(f"{refusal}. Register it with another OSF, or build one of that type")
    await refuse_used_version(tx, row["id"], name, image.version)
    await refuse_replaced_file(tx, image)
    made = await tx.fetch_one(
        "INSERT INTO dis (tenant_id, osf_id, path, version, state, type, size, checksum)"
        " VALUES (%(tenant)s, %(osf)s, %(path)s, %(version)s, 'ready', %(type)s, %(size)s, %(sum)s) RETURNING id",
        {
            "tenant": row["tenant_id"],
            "osf": row["id"],
            "path": image.path,
            "version": image.version,
            "type": image.type,
            "size": image.size,
            "sum": image.checksum,
        },
    )
    assert made is not None
    return Registered(DIId(made["id"]), name)


async def find_osf(tx: ITransaction, osf: str) -> Row:
    """@raise NotFound: there is none of that number or name."""
    named = NAMED.fullmatch(osf)
    if named is None and not (osf.isascii() and osf.isdecimal() and len(osf) < 10):
        raise InvalidRequest(f"{osf!r} names no OSF: give its number, or TENANT/NAME")
    row = await tx.fetch_one(
        "SELECT o.id, o.tenant_id, o.name, o.hypervisor, t.name AS tenant FROM osfs o JOIN tenants t"
        " ON t.id = o.tenant_id WHERE o.id = %(id)s OR (lower(t.name) = lower(%(tenant)s) AND o.name = %(name)s)"
        " FOR SHARE OF o",
        {
            "id": None if named else int(osf),
            "tenant": named and named["tenant"],
            "name": named and named["name"],
        },
    )
    if row is None:
        raise NotFound(f"There is no OSF {osf!r}")
    return row


async def refuse_used_version(tx: ITransaction, osf_id: int, osf: str, version: str) -> None:
    """@raise Conflict: it is a tag of the OSF already, or would be another one than it seems."""
    if await tx.fetch_one("SELECT 1 FROM di_tags WHERE osf_id = %s AND tag = %s", (osf_id, version)):
        raise Conflict(f"The version {version!r} of {osf!r} is a version or a tag already: choose another one")
    if version.strip() in ("", "head", "default"):
        raise InvalidRequest(f"{version!r} cannot be a version: choose another one")


async def refuse_replaced_file(tx: ITransaction, image: NewImage) -> None:
    """Several OSFs may start from one file. But nobody replaces a file of which there is an image: its VMs run on it.

    @raise Conflict: what is registered under this name had another content.
    """
    row = await tx.fetch_one(
        "SELECT d.version, o.name, d.checksum FROM dis d JOIN osfs o ON o.id = d.osf_id"
        " WHERE d.path = %s AND d.checksum IS DISTINCT FROM %s LIMIT 1",
        (image.path, image.checksum),
    )
    if row is not None:
        raise Conflict(
            f"The file {image.path!r} is registered already, with another content (version {row['version']!r} of"
            f" {row['name']!r}): give the new one a name of its own"
        )


async def publish(tx: ITransaction, di_id: DIId, tags: Collection[str], cause: str) -> None:
    """Let VMs start from it. Those that run are left alone."""
    di = await begin(tx, di_id, cause)
    await lock_vms(tx, di["osf_id"])
    await tx.execute("UPDATE dis SET state = %s WHERE id = %s", (DIState.PUBLISHED.value, di_id))
    for tag in sorted(set(tags)):
        await move(tx, di, tag)


@implementer(ITransaction)
@frozen
class BlockingTransaction:
    """L{ITransaction} that answers before it returns: what awaits it never waits."""

    cursor: Any

    async def fetch(self, sql: str, parameters: Parameters = ()) -> Sequence[Row]:
        self.cursor.execute(sql, parameters or None)
        rows: Sequence[Row] = self.cursor.fetchall() if self.cursor.description else ()
        return rows

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        self.cursor.execute(sql, parameters or None)
        return max(0, int(self.cursor.rowcount))


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of what awaits nothing but a L{BlockingTransaction}."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("It waits for something")
