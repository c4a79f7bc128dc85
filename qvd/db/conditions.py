# -*- test-case-name: tests.admin.test_users -*-
"""
SQL of what lists are asked for. Names come from declarations only, values are parameters only; and no statement is
made without its scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qvd.interfaces.administration import Query
from qvd.model.declared import COMMON, Field, Kind, Resource, Scope
from qvd.model.filters import All, AnyOf, Comparison, Filter, Not, Operator

SIMPLE = {
    Operator.EQ: "=",
    Operator.NE: "IS DISTINCT FROM",
    Operator.LT: "<",
    Operator.LE: "<=",
    Operator.GT: ">",
    Operator.GE: ">=",
    Operator.LIKE: "LIKE",
    Operator.ILIKE: "ILIKE",
}


class Statement:
    """Makes one statement about a resource.

    @param scope: whose objects there are.
    """

    def __init__(self, resource: Resource, scope: Scope) -> None:
        self._resource = resource
        self._scope = scope
        self._joins: set[str] = set()
        self._parameters: list[Any] = []

    def page(self, fields: Sequence[Field], query: Query) -> tuple[str, Sequence[Any]]:
        """The objects of a page, and one more if there is one. C{before} comes in reverse.

        Which they are is found with the joins that conditions and order need. What is shown of them is joined to those
        few only: PostgreSQL would join all that match, to sort them then.
        """
        where = [*self._scoped(), *self._conditions(query.where)]
        backward = query.before is not None
        edge = query.before if backward else query.after
        if edge is not None:
            where.append(self._beyond(query.order, edge, backward))
        order = [
            f"{self._expression(field)} {'DESC' if down != backward else 'ASC'}"
            f" NULLS {'FIRST' if down != backward else 'LAST'}"
            for field, down in query.order
        ]
        order.append(f"{self._resource.key} {'DESC' if backward else 'ASC'}")
        by = f" ORDER BY {', '.join(order)}"
        limit = f" LIMIT {query.limit + 1} OFFSET {query.offset}"
        needed = set(self._joins)
        columns = self._columns(fields)
        if self._joins == needed:
            return self._select(columns, where, by + limit)
        shown, self._joins = self._joins, needed
        inner, parameters = self._select(self._resource.key, where, by + limit)
        self._joins = shown
        outer, _ = self._select(columns, [f"{self._resource.key} = ANY(ARRAY({inner}))"], by)
        return outer, parameters

    def count(self, where: Filter | None) -> tuple[str, Sequence[Any]]:
        """How many there are."""
        return self._select("count(*)", [*self._scoped(), *self._conditions(where)], "")

    def tally(self, field: Field, where: Filter | None, most: int, latest: bool) -> tuple[str, Sequence[Any]]:
        """How many there are of each value."""
        columns = f"{self._expression(field)} AS value, count(*) AS count"
        conditions = [*self._scoped(), *self._conditions(where)]
        order = "1 DESC" if latest else "2 DESC, 1"
        return self._select(columns, conditions, f" GROUP BY 1 ORDER BY {order} LIMIT {most}")

    def one(self, fields: Sequence[Field], object_id: int, lock: bool) -> tuple[str, Sequence[Any]]:
        """The object of that id, with its tenant."""
        columns = self._columns(fields)
        if self._resource.tenant and not any(field.name == "tenant_id" for field in fields):
            columns += f", {self._resource.tenant} AS tenant_id"
        where = [*self._scoped(), f"{self._resource.key} = %s"]
        self._parameters.append(object_id)
        return self._select(columns, where, f" FOR NO KEY UPDATE OF {self._resource.alias}" if lock else "")

    def _columns(self, fields: Iterable[Field]) -> str:
        found = [f"{self._resource.key} AS id"]
        found += [f'{self._expression(field)} AS "{field.name}"' for field in fields if field.name != "id"]
        return ", ".join(found)

    def _expression(self, field: Field) -> str:
        self._joins.update(field.joins)
        self._parameters.extend(field.parameters)
        return field.sql

    def _scoped(self) -> list[str]:
        resource = self._resource
        if self._scope.tenant_id is None or not resource.tenant:
            return []
        self._parameters.append(self._scope.tenant_id)
        return [
            f"({resource.tenant} = %s OR {resource.tenant} = {COMMON})"
            if resource.shared
            else f"{resource.tenant} = %s"
        ]

    def _conditions(self, where: Filter | None) -> list[str]:
        return [] if where is None else [self._condition(where)]

    def _condition(self, where: Filter) -> str:
        match where:
            case All(parts):
                return f"({' AND '.join(self._condition(part) for part in parts) or 'true'})"
            case AnyOf(parts):
                return f"({' OR '.join(self._condition(part) for part in parts) or 'false'})"
            case Not(part):
                return f"(({self._condition(part)}) IS NOT TRUE)"
            case Comparison(field, Operator.IN | Operator.NIN as operator, value):
                sql = self._expression(field)
                self._parameters.append(array_of(field, value))
                return f"({sql} = ANY(%s)) IS {'NOT ' if operator is Operator.NIN else ''}TRUE"
            case Comparison(field, operator, value):
                return self._comparison(self._expression(field), operator, value)

    def _comparison(self, sql: str, operator: Operator, value: Any) -> str:
        match operator:
            case Operator.NULL:
                return f"{sql} IS {'' if value else 'NOT '}NULL"
            case Operator.EQ if value is None:
                return f"{sql} IS NULL"
            case Operator.BETWEEN:
                self._parameters.extend(value)
                return f"{sql} BETWEEN %s AND %s"
            case Operator.PREFIX:
                self._parameters.append(value)
                return f"starts_with({sql}, %s)"
            case _:
                self._parameters.append(value)
                return f"{sql} {SIMPLE[operator]} %s"

    def _beyond(self, order: Sequence[tuple[Field, bool]], edge: Sequence[Any], backward: bool) -> str:
        """Objects that come after an object, or before it, in that order. Nulls come last, and first in reverse."""
        alternatives = []
        pairs = list(zip([*order, (None, False)], edge, strict=True))
        for index, (last, value) in enumerate(pairs):
            parts = [self._same(field, known) for (field, _), known in pairs[:index] if field is not None]
            field, down = last
            sql = self._resource.key if field is None else self._expression(field)
            parts.append(self._further(sql, value, down != backward))
            alternatives.append(f"({' AND '.join(parts)})")
        return f"({' OR '.join(alternatives)})"

    def _same(self, field: Field, value: Any) -> str:
        sql = self._expression(field)
        if value is None:
            return f"{sql} IS NULL"
        self._parameters.append(value)
        return f"{sql} = %s"

    def _further(self, sql: str, value: Any, down: bool) -> str:
        if value is None:
            return f"{sql} IS NOT NULL" if down else "false"
        self._parameters.append(value)
        return f"{sql} < %s" if down else f"({sql} > %s OR {sql} IS NULL)"

    def _select(self, columns: str, where: Sequence[str], tail: str) -> tuple[str, Sequence[Any]]:
        joins = " ".join(join for name, join in self._resource.joins.items() if name in self._joins)
        text = f" WHERE {' AND '.join(where)}" if where else ""
        return f"SELECT {columns} FROM {self._resource.source} {joins}{text}{tail}", tuple(self._parameters)


def array_of(field: Field, values: Sequence[Any]) -> Any:
    """Of addresses, a text that PostgreSQL makes an array of the column's own type of: C{inet} is not compared with
    text. They are checked to be addresses, so nothing in them is to be quoted."""
    if field.kind is Kind.ADDRESS:
        return "{" + ",".join(value for value in values if value is not None) + "}"
    return list(values)
