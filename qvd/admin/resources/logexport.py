# -*- test-case-name: tests.admin.test_log_export -*-
"""
The audit trail, to take away: all rows that match, oldest first, a few at a time.

The filters are those of the list, and so is what a caller sees. Whoever loses their session, or a permission, while an
export runs gets no more of it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve, frozen

from qvd.admin.call import Answer, Call, Subject
from qvd.admin.collections import Collection
from qvd.admin.endpoint import Endpoint, acl
from qvd.admin.grants import require
from qvd.admin.outlet import Chunks
from qvd.admin.problems import Problem
from qvd.admin.queries import LIST_PARAMETERS, RESERVED, Wanted, list_query
from qvd.admin.resources.log import Log
from qvd.admin.site import encode
from qvd.interfaces.administration import Rows
from qvd.model.declared import COMMON, Values
from qvd.model.filters import All, Comparison, Operator

MOST_ROWS, LEAST_ROWS, LARGE = 200, 5, 512 * 1024
"""Rows that are read at once, and from how many bytes of them on fewer are."""
RECHECKED = 2.0
"""Seconds after which it is asked again who the caller is."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What programs that show tables take for the beginning of a formula, which anybody's name may be."""
EXPORT = "log.export."
Encode = Callable[[Sequence[Mapping[str, Any]]], bytes]


def as_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Each row a line of JSON."""
    return b"".join(encode(row) + b"\n" for row in rows)


def as_table(names: Sequence[str]) -> Encode:
    """Rows as CSV (RFC 4180). What is a document is JSON in its cell.

    @param names: of the columns.
    """

    def table(rows: Sequence[Mapping[str, Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows([cell(row[name]) for name in names] for row in rows)
        return text.getvalue().encode("utf-8", "replace")

    return table


def cell(value: Any) -> str:
    """What stands in a cell, which no program runs."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case datetime():
            return value.isoformat()
        case str():
            return f"'{value}" if value.startswith(FORMULA) else value
        case _:
            return encode(value).decode("utf-8", "replace")


@frozen
class Export:
    """One that runs.

    @ivar upto: number of the last row: what is written meanwhile is not in it.
    """

    call: Call
    view: Collection
    wanted: Wanted
    upto: int
    encode: Encode

    async def page(self, after: int, limit: int) -> Rows:
        """Rows that come after one."""
        key = self.view.resource.get("id")
        assert key is not None
        where = [Comparison(key, Operator.LE, self.upto)]
        given = self.wanted.query.where
        query = evolve(
            self.wanted.query,
            where=All(tuple(where) if given is None else (given, *where)),
            order=(),
            limit=limit,
            after=(after,),
        )
        found: Rows = await self.call.services.records.page(
            self.view.resource, self.wanted.fields, self.call.scope, query
        )
        return found

    def document(self, row: Values) -> dict[str, Any]:
        """A row as the caller sees it."""
        return self.view.document(self.call.principal, row, self.wanted)

    async def chunks(self, head: bytes, rows: Rows) -> AsyncIterator[bytes]:
        """All of it.

        @param rows: the first of them, read before anything was answered.
        @raise Problem: the caller may not have more of it.
        """
        clock, limit = self.call.services.reactor, MOST_ROWS
        checked = clock.seconds()
        if head:
            yield head
        while rows.items:
            chunk = self.encode([self.document(row) for row in rows.items])
            last, more = int(rows.items[-1]["id"]), rows.has_more
            limit = fitting(limit, len(chunk))
            rows = Rows((), False)
            yield chunk
            if not more:
                return
            if clock.seconds() - checked >= RECHECKED:
                await self.recheck()
                checked = clock.seconds()
            rows = await self.page(last, limit)

    async def recheck(self) -> None:
        """@raise Problem: the caller is not, any more, who may have this."""
        was, now = self.call.principal, await self.call.services.gate.identify(self.call)
        if now is None or now.scope != was.scope or not was.acls <= now.acls or now.must_change_password:
            raise Problem("forbidden", "The caller may not have more of the export")


def fitting(limit: int, size: int) -> int:
    """How many rows to read next, after so many had so many bytes."""
    if size > LARGE:
        return max(LEAST_ROWS, limit // 2)
    return min(MOST_ROWS, limit * 2) if size < LARGE // 4 else limit


class LogExports:
    """The operations. They change nothing but the trail itself, which says who took what away."""

    def __init__(self, peers: Mapping[str, Collection]) -> None:
        log = peers["log"]
        assert isinstance(log, Log)
        self.log = log

    def endpoints(self) -> Sequence[Endpoint]:
        """One for each format."""
        common: dict[str, Any] = {
            "method": "POST",
            "need": acl(EXPORT),
            "answers": {200: {"type": "string"}},
            "parameters": LIST_PARAMETERS[:1],
            "open_query": True,
            "filtered": self.log.resource,
            "tag": "log",
        }
        return [
            Endpoint(
                path="/log/export.ndjson",
                action="log.export",
                handler=self.lines,
                summary="Log: all rows that match, each a line of JSON, the oldest first",
                produces="application/x-ndjson",
                **common,
            ),
            Endpoint(
                path="/log/export.csv",
                action="log.export-table",
                handler=self.table,
                summary="Log: all rows that match as CSV, the oldest first",
                produces="text/csv",
                **common,
            ),
        ]

    async def lines(self, call: Call) -> Answer:
        return await self.export(call, lambda names: (b"", as_lines))

    async def table(self, call: Call) -> Answer:
        def format_of(names: Sequence[str]) -> tuple[bytes, Encode]:
            table = as_table(names)
            return table([dict(zip(names, names, strict=True))]), table

        return await self.export(call, format_of)

    async def export(self, call: Call, format_of: Callable[[Sequence[str]], tuple[bytes, Encode]]) -> Answer:
        """@param format_of: of the names of columns, what it begins with, and what encodes rows."""
        require(call.principal, "log.see-main.")
        for name in call.query:
            if name in RESERVED - {"fields"}:
                raise Problem("unknown-filter", f"There is no parameter {name!r} here")
        view, services = self.log.view(call.principal), call.services
        asked = list_query(view.resource, call)
        head = await services.database.fetch_one("SELECT id FROM audit_head")
        wanted = view.completed(asked)
        names = ["id", *(field.name for field in asked.shown)]
        begins, encoder = format_of(names)
        made = Export(call, view, wanted, int(head["id"]) if head else 0, encoder)
        first = await made.page(0, MOST_ROWS)
        tenant_id = COMMON if call.principal.superadmin else call.principal.tenant_id
        call.subject = Subject("log", None, "export", tenant_id)
        name = f"audit.{call.endpoint.path.rpartition('.')[2]}"
        headers = {
            "Content-Type": f"{call.endpoint.produces}; charset=utf-8",
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        stream = Chunks(services.reactor, made.chunks(begins, first)).writer()
        return Answer(200, headers=headers, media=call.endpoint.produces, stream=stream)
