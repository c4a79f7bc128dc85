# -*- test-case-name: tests.contract.test_db_audit -*-
"""
Whether the audit trail is whole: each row's hash covers the row and the hash before it, and the head says where the
trail ends. For C{qvd-db}: without a reactor, and without holding more than a few rows.

The hashes are computed here, not by the database's own function, which whoever may change rows could change too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2.extensions
from attrs import frozen

from qvd.db.migrate import connected
from qvd.model.errors import InvalidRequest

BATCH = 1000
"""Rows that are held at once."""
PURGED = "log.purge"
"""Action of the rows that tell of older ones' end."""
MOST_PURGED = 100_000
"""Rows that one transaction takes away."""
ROWS = "SELECT id, extract(epoch FROM at)::text, entry::text, hash, action FROM audit ORDER BY id"


@frozen
class Place:
    """A row's number and hash."""

    id: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.id}:{self.hash.hex()}"


START = Place(0, b"")


@frozen
class Fault:
    """@ivar row: number of the first row that is wrong or not there.

    @ivar why: a sentence for people.
    """

    row: int
    why: str


@frozen
class Verdict:
    """@ivar rows: that are in order, from the first on. C{head} is the last of them.

    @ivar fault: L{None}: the trail is whole.
    """

    rows: int
    head: Place
    fault: Fault | None = None


def parse_place(text: str) -> Place:
    """What C{qvd-db verify-audit} printed some day.

    @raise InvalidRequest: it is not that.
    """
    number, _, digest = text.strip().partition(":")
    try:
        return Place(int(number), bytes.fromhex(digest))
    except ValueError:
        raise InvalidRequest(f"{text!r} is not the number of a row, a colon and its hash") from None


def digest(before: bytes, row_id: int, epoch: str, entry: str) -> bytes:
    """Hash of a row: as the function C{audit_hash} of the schema."""
    return hashlib.sha256(before + f"{row_id} {epoch} {entry}".encode()).digest()


class Chain:
    """Follows the trail, a row at a time.

    @param anchor: what the first row is chained to.
    @param known: a row that was noted down outside the database.
    """

    def __init__(self, anchor: Place, known: Place | None = None) -> None:
        self.anchor = anchor
        self.last = anchor
        self.rows = 0
        self._known = known
        self._purged: Place = START

    def fault(self, row_id: int, epoch: str, entry: str, found: bytes, action: str | None) -> Fault | None:
        """Take one row more; what is wrong with it."""
        due = self.last.id + 1
        if row_id != due:
            return Fault(due, f"Row {due} is not there: the next one is {row_id}")
        if digest(self.last.hash, row_id, epoch, entry) != found:
            return Fault(due, f"Row {due} is not as it was written, or follows another than it was written after")
        if self._known is not None and self._known.id == row_id and self._known.hash != found:
            return Fault(due, f"Row {due} is not the one that was noted down: the trail was written anew")
        self.last = Place(row_id, found)
        self.rows += 1
        if action == PURGED:
            self._purged = purged_of(entry) or self._purged
        return None

    def end_fault(self, head: Place) -> Fault | None:
        """What is wrong at the end: rows are gone, or the anchor was moved."""
        due = self.last.id + 1
        if self.last.id < head.id:
            return Fault(due, f"Row {due} and what followed are not there: the trail went on to {head.id}")
        if self.last != head:
            return Fault(self.last.id, f"Row {self.last.id} is not the one that the trail's head tells of, {head.id}")
        if self._known is not None and self._known.id > head.id:
            return Fault(due, f"Row {due} and what followed are not there: {self._known.id} was noted down")
        if self.anchor != self._purged:
            return Fault(1, f"Rows up to {self.anchor.id} are not there, and no row tells that they were purged")
        return None


def purged_of(entry: str) -> Place | None:
    """Up to where a purge went, by its own row."""
    after: Mapping[str, Any] = json.loads(entry).get("after") or {}
    try:
        return Place(int(after["anchor_id"]), bytes.fromhex(after["anchor_hash"]))
    except (KeyError, TypeError, ValueError):
        return None


def verify(dsn: str, known: Place | None = None) -> Verdict:
    """Look at the whole trail, as it is at one moment.

    @raise QVDError: the database cannot be reached.
    """
    with connected(dsn) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT r.anchor_id, r.anchor_hash, h.id, h.hash FROM audit_retention r FULL JOIN audit_head h ON true"
            )
            anchor_id, anchor_hash, head_id, head_hash = cursor.fetchone() or (None,) * 4
        if anchor_id is None or head_id is None:
            return Verdict(0, START, Fault(1, "The end of the trail is nowhere noted: the row of its head is gone"))
        chain = Chain(Place(anchor_id, bytes(anchor_hash)), known)
        for row_id, epoch, entry, found, action in rows_of(connection):
            if fault := chain.fault(row_id, epoch, entry, bytes(found), action):
                return Verdict(chain.rows, chain.last, fault)
        return Verdict(chain.rows, chain.last, chain.end_fault(Place(head_id, bytes(head_hash))))


def rows_of(connection: psycopg2.extensions.connection) -> Iterator[tuple[Any, ...]]:
    """The trail, a few rows at a time: the cursor is the server's."""
    with connection.cursor("audit") as cursor:
        cursor.itersize = BATCH
        cursor.execute(ROWS)
        yield from cursor


def purge(dsn: str, cause: str) -> int:
    """Take away rows that are older than they are kept, and write a row that says so. How many went.

    @raise QVDError: the database cannot be reached.
    """
    gone = 0
    with connected(dsn) as connection, connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT removed, anchor_id, encode(anchor_hash, 'hex') FROM audit_purge(%s)", (MOST_PURGED,))
            removed, anchor_id, anchor_hash = cursor.fetchone() or (0, 0, "")
            if not removed:
                return gone
            entry = {
                "action": PURGED,
                "outcome": "done",
                "kind": "log",
                "request_id": "",
                "client_address": "",
                "administrator_name": cause,
                "object_tenant_id": -1,
                "after": {"removed": removed, "anchor_id": anchor_id, "anchor_hash": anchor_hash},
                "status": 200,
            }
            cursor.execute("SELECT audit_append(%s::jsonb)", (json.dumps(entry),))
            connection.commit()
            gone += removed
