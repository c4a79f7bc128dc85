# -*- test-case-name: tests.admin.test_users -*-
"""Objects of declared resources, read and written by SQL that is made of their declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from zope.interface import implementer

from qvd.db.conditions import Statement
from qvd.interfaces import IDatabase, ITransaction, Row
from qvd.interfaces.administration import IRecords, Query, Rows
from qvd.model.declared import Field, Resource, Scope, Values
from qvd.model.filters import Filter


@implementer(IRecords)
@frozen
class Records:
    """L{IRecords} over PostgreSQL."""

    db: IDatabase

    async def page(self, resource: Resource, fields: Sequence[Field], scope: Scope, query: Query) -> Rows:
        statement = Statement(resource, scope)
        sql, parameters = statement.page(fields, query)
        rows = list(await self.db.fetch(sql, parameters))
        has_more = len(rows) > query.limit
        rows = rows[: query.limit]
        if query.before is not None:
            rows.reverse()
        return Rows(rows, has_more)

    async def count(
        self, resource: Resource, scope: Scope, where: Filter | None, tx: ITransaction | None = None
    ) -> int:
        sql, parameters = Statement(resource, scope).count(where)
        row = await (tx or self.db).fetch_one(sql, parameters)
        assert row is not None
        return int(row["count"])

    async def ids(self, resource: Resource, scope: Scope, where: Filter | None, most: int) -> Sequence[int]:
        sql, parameters = Statement(resource, scope).page((), Query(where=where, limit=most - 1))
        return [row["id"] for row in await self.db.fetch(sql, parameters)]

    async def tally(
        self, resource: Resource, field: Field, scope: Scope, where: Filter | None, most: int, latest: bool = False
    ) -> Sequence[tuple[Any, int]]:
        sql, parameters = Statement(resource, scope).tally(field, where, most, latest)
        return [(row["value"], row["count"]) for row in await self.db.fetch(sql, parameters)]

    async def find(
        self,
        resource: Resource,
        fields: Sequence[Field],
        scope: Scope,
        object_id: int,
        tx: ITransaction | None = None,
        lock: bool = False,
    ) -> Values | None:
        sql, parameters = Statement(resource, scope).one(fields, object_id, lock)
        row: Row | None = await (tx or self.db).fetch_one(sql, parameters)
        return row

    async def insert(self, resource: Resource, tenant_id: int | None, values: Values, tx: ITransaction) -> int:
        columns = dict(written(resource, values).get(resource.table, {}))
        if tenant_id is not None:
            columns[resource.tenant_column] = tenant_id
        names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
        row = await tx.fetch_one(
            f"INSERT INTO {resource.table} ({names}) VALUES ({marks}) RETURNING id", tuple(columns.values())
        )
        assert row is not None
        others = {table: each for table, each in written(resource, values).items() if table != resource.table}
        await self._update(resource, row["id"], others, tx)
        return int(row["id"])

    async def update(self, resource: Resource, object_id: int, values: Values, tx: ITransaction) -> None:
        await self._update(resource, object_id, written(resource, values), tx)

    async def delete(self, resource: Resource, object_id: int, tx: ITransaction) -> None:
        await tx.execute(f"DELETE FROM {resource.table} WHERE id = %s", (object_id,))

    async def _update(
        self, resource: Resource, object_id: int, tables: Mapping[str, Mapping[str, Any]], tx: ITransaction
    ) -> None:
        for table, columns in tables.items():
            sets = ", ".join(f"{column} = %s" for column in columns)
            key = resource.keys[table]
            await tx.execute(f"UPDATE {table} SET {sets} WHERE {key} = %s", (*columns.values(), object_id))


def written(resource: Resource, values: Values) -> dict[str, dict[str, Any]]:
    """Values by table and column. Fields without a column are a handler's affair."""
    tables: dict[str, dict[str, Any]] = {}
    for field in resource.fields:
        if field.column and field.name in values:
            table, _, column = field.column.partition(".")
            tables.setdefault(table, {})[column] = values[field.name]
    return tables
