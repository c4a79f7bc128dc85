# -*- test-case-name: tests.contract.test_db_garbage -*-
"""Marks of garbage, who collects it, and the one transaction in which a thing is taken away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from attrs import frozen
from zope.interface import implementer

from qvd.interfaces import IDatabase, IGarbage, ITransaction
from qvd.model.errors import Conflict, OwnershipLost
from qvd.model.garbage import Key, Known, Mark, Thing
from qvd.model.ids import VMId

# What would be a reference, of a mark C{m}: see L{qvd.model.garbage.reference}.
# An image in use keeps all that was unpacked from its file: which of it, the row does not say. A VM has a node from its
# placement to its release.
IN_USE = "EXISTS (SELECT FROM vm_runtimes r WHERE r.current_di_id = d.id AND r.host_id IS NOT NULL)"
REFERENCES = (
    "SELECT FROM vm_runtimes r LEFT JOIN hosts h ON h.id = r.host_id WHERE r.vm_id = m.vm_id"
    " AND (m.kind <> 'layer' OR h.name = coalesce(m.node, h.name))",
    "SELECT FROM dis d WHERE d.path = m.image AND m.kind = 'base'"
    f" AND (d.checksum IS NULL OR m.checksum IS NULL OR d.checksum = m.checksum OR {IN_USE})",
)
UNMARK = (
    "DELETE FROM garbage_marks m WHERE storage = %(storage)s AND path = %(path)s AND kind = %(kind)s"
    " AND vm_id IS NOT DISTINCT FROM %(vm)s AND image IS NOT DISTINCT FROM %(image)s"
    " AND checksum IS NOT DISTINCT FROM %(checksum)s AND node IS NOT DISTINCT FROM %(node)s"
    " AND since <= clock_timestamp() - %(age)s * interval '1 second'"
    f" AND {' AND '.join(f'NOT EXISTS ({reference})' for reference in REFERENCES)}"
    " RETURNING to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS date"
)
HISTORY = (
    "INSERT INTO events (kind, vm_id, before, cause) VALUES (%(event)s, %(vm)s, jsonb_build_object('kind',"
    " %(kind)s::text, 'path', %(path)s::text, 'trash', nullif(%(trash)s::text, '')), %(cause)s)"
)


@implementer(IGarbage)
@frozen
class Garbage:
    """L{IGarbage} over PostgreSQL."""

    db: IDatabase

    async def installation(self) -> str:
        row = await self.db.fetch_one("SELECT id::text FROM installation")
        assert row is not None, "a migration inserts it"
        return str(row["id"])

    async def take(self, holder: str, seconds: float) -> str:
        row = await self.db.fetch_one(
            "UPDATE garbage_collector SET token = gen_random_uuid(), holder = %s,"
            " until = clock_timestamp() + %s * interval '1 second' WHERE until < clock_timestamp()"
            " RETURNING token::text",
            (holder, seconds),
        )
        if row is None:
            other = await self.db.fetch_one("SELECT holder FROM garbage_collector")
            raise Conflict(f"Garbage is being collected already: by {other['holder'] if other else 'somebody'}")
        return str(row["token"])

    async def renew(self, token: str, seconds: float) -> None:
        await prolong(self.db, token, seconds)

    async def give_back(self, token: str) -> None:
        await self.db.execute(
            "UPDATE garbage_collector SET token = NULL, until = '-infinity' WHERE token = %s::uuid", (token,)
        )

    async def known(self) -> Known:
        vms = await self.db.fetch(
            "SELECT r.vm_id, h.name AS node FROM vm_runtimes r LEFT JOIN hosts h ON h.id = r.host_id"
        )
        images = await self.db.fetch(
            f"SELECT path, CASE WHEN {IN_USE} THEN NULL ELSE checksum END AS checksum FROM dis d WHERE path <> ''"
        )
        return Known(
            {VMId(row["vm_id"]): row["node"] for row in vms},
            frozenset((row["path"], row["checksum"]) for row in images),
        )

    async def marks(self, storages: Collection[str]) -> Mapping[Key, Mark]:
        rows = await self.db.fetch(
            "SELECT storage, path, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS since,"
            " extract(epoch FROM clock_timestamp() - since)::float8 AS age"
            " FROM garbage_marks WHERE storage = ANY (%s)",
            (list(storages),),
        )
        return {Key(row["storage"], row["path"]): Mark(row["since"], row["age"]) for row in rows}

    async def mark(self, things: Sequence[Thing]) -> None:
        columns = [
            [thing.key.storage for thing in things],
            [thing.key.path for thing in things],
            [thing.kind.value for thing in things],
            [thing.vm_id for thing in things],
            [thing.image or None for thing in things],
            [thing.checksum or None for thing in things],
            [thing.node or None for thing in things],
        ]
        await self.db.execute(
            "INSERT INTO garbage_marks (storage, path, kind, vm_id, image, checksum, node)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::integer[], %s::text[], %s::text[],"
            "  %s::text[])"
            " ON CONFLICT DO NOTHING",
            columns,
        )

    async def unmark(self, keys: Sequence[Key]) -> None:
        await self.db.execute(
            "DELETE FROM garbage_marks WHERE (storage, path) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
            ([key.storage for key in keys], [key.path for key in keys]),
        )

    async def collect(
        self, token: str, seconds: float, thing: Thing, age: float, move: Callable[[str], Awaitable[str]], cause: str
    ) -> bool:
        async def work(tx: ITransaction) -> bool:
            # Its row is locked from here on: nobody else begins to collect before this is over.
            await prolong(tx, token, seconds)
            row = await tx.fetch_one(UNMARK, {**parameters, "age": age})
            if row is None:
                return False
            # What comes to refer to it now waits for the mark that is deleted.
            trash = await move(row["date"])
            if trash:
                await tx.execute(
                    "INSERT INTO garbage_marks (storage, path, kind) VALUES (%s, %s, 'trash')",
                    (thing.key.storage, trash),
                )
            event = "garbage.trashed" if trash else "garbage.deleted"
            await tx.execute(HISTORY, {**parameters, "event": event, "trash": trash, "cause": cause})
            return True

        parameters = {
            "storage": thing.key.storage,
            "path": thing.key.path,
            "kind": thing.kind.value,
            "vm": thing.vm_id,
            "image": thing.image or None,
            "checksum": thing.checksum or None,
            "node": thing.node or None,
        }
        return await self.db.transact("collect_garbage", work)


async def prolong(tx: ITransaction, token: str, seconds: float) -> None:
    """Of a right that was over for a while it is still known whether somebody else has had it.

    @raise OwnershipLost: somebody has.
    """
    touched = await tx.execute(
        "UPDATE garbage_collector SET until = clock_timestamp() + %s * interval '1 second' WHERE token = %s::uuid",
        (seconds, token),
    )
    if not touched:
        raise OwnershipLost("Another node collects garbage by now")
