# -*- test-case-name: tests.admin.test_users,tests.admin.test_hostile -*-
"""What a list is asked for: fields, filters, order, page. From the query string, or from the body of a search."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from attrs import frozen

from qvd.admin.call import Call
from qvd.admin.endpoint import Parameter
from qvd.admin.owners import property_field
from qvd.admin.problems import Problem
from qvd.admin.schema import LARGEST, SMALLEST
from qvd.interfaces.administration import Query, Rows
from qvd.model.declared import Field, Kind, Principal, Resource
from qvd.model.filters import All, AnyOf, Comparison, Filter, Not, Operator

MOST, DEFAULT_LIMIT, DEEPEST, WIDEST = 500, 50, 8, 100
"""Objects of a page, at most and if nothing is said; levels of a search's conditions, and conditions in all."""
LAST_PAGE = 1_000_000
LONGEST_VALUE = 4096
"""Characters of a text that is looked for: patterns take the database as long as they are."""
TEXT = {"type": "string"}
LIST_PARAMETERS = (
    Parameter("fields", TEXT, "Names of fields, with commas; others are left out"),
    Parameter("include", TEXT, "More: actions"),
    Parameter("sort", TEXT, "Names of fields, with commas; a minus before one turns its order round"),
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, "Objects of a page"),
    Parameter("cursor", TEXT, "Where to go on, as the answer before said"),
    Parameter("page", {"type": "integer", "minimum": 1, "maximum": LAST_PAGE}, "Number of a page, instead of a cursor"),
    Parameter("count", {"type": "string", "enum": ["true", "false"]}, "Whether to count all that match"),
)
ORDERING = (Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN)
RESERVED = frozenset(each.name for each in LIST_PARAMETERS)


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a search. C{filter} is a tree: C{and}, C{or}, C{not}, or C{field}, C{op}, C{value}."""

    filter: dict[str, Any] | None = None
    fields: list[str] = []
    include: list[str] = []
    sort: str = ""
    limit: Annotated[int, msgspec.Meta(ge=0, le=MOST)] = 0
    cursor: str = ""
    page: Annotated[int, msgspec.Meta(ge=0, le=LAST_PAGE)] = 0
    count: bool = True


@frozen(kw_only=True)
class Wanted:
    """What was asked for.

    @ivar shown: fields of the answer; C{fields} are those that it takes to make it.
    """

    shown: Sequence[Field]
    fields: Sequence[Field]
    query: Query
    count: bool
    with_actions: bool
    sort: str

    def page_info(self, rows: Rows, total: int | None) -> dict[str, Any]:
        """Where the page is, with cursors to its neighbours."""
        query, items = self.query, rows.items
        back = query.before is not None
        has_next = bool(items) and (rows.has_more or back)
        has_prev = bool(items) and ((rows.has_more if back else query.after is not None) or query.offset > 0)
        return {
            "limit": query.limit,
            "next": self._cursor("n", items[-1]) if has_next else None,
            "prev": self._cursor("p", items[0]) if has_prev else None,
            "total": total,
            "total_exact": total is not None,
        }

    def _cursor(self, way: str, row: Mapping[str, Any]) -> str:
        values = [row[field.name] for field, _ in self.query.order]
        raw = msgspec.json.encode([way, self.sort, *values, row["id"]])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def links(self, call: Call, info: Mapping[str, Any]) -> dict[str, str]:
        """The C{Link} header (RFC 8288)."""
        if call.method != "GET":
            return {}
        others = [
            (name, value) for name, values in call.query.items() for value in values if name not in ("cursor", "page")
        ]
        path = call.uri.partition("?")[0]
        links = [
            f'<{path}?{urlencode([*others, ("cursor", info[way])])}>; rel="{way}"'
            for way in ("next", "prev")
            if info[way]
        ]
        return {"Link": ", ".join(links)} if links else {}


def list_query(resource: Resource, call: Call) -> Wanted:
    """From the query string.

    @raise Problem: a field, filter or order that there is not, or that is not the caller's to use.
    """
    search = Search(
        fields=names(call.one("fields")),
        include=names(call.one("include")),
        sort=call.one("sort"),
        limit=whole(call, "limit"),
        cursor=call.one("cursor"),
        page=whole(call, "page", LAST_PAGE),
        count=call.one("count", "true") != "false",
    )
    conditions = []
    for key, values in call.query.items():
        if key in RESERVED:
            continue
        conditions.append(condition(resource, call.principal, key, values))
    where = All(tuple(conditions)) if conditions else None
    return wanted_of(resource, call.principal, search, where)


def search_query(resource: Resource, call: Call) -> Wanted:
    """From the body of a search."""
    search: Search = call.body
    left = [WIDEST]
    where = tree(resource, call.principal, search.filter, DEEPEST, left) if search.filter else None
    return wanted_of(resource, call.principal, search, where)


def wanted_of(resource: Resource, principal: Principal, search: Search, where: Filter | None) -> Wanted:
    if search.limit < 0 or search.limit > MOST:
        raise Problem("malformed-request", f"limit is a number from 1 to {MOST}")
    for name in search.include:
        if name != "actions":
            raise Problem("unknown-field", f"{name!r} cannot be included")
    shown = shown_fields(resource, principal, search.fields)
    order = order_of(resource, principal, search.sort)
    limit = search.limit or min(principal.page_size or DEFAULT_LIMIT, MOST)
    after = before = None
    if search.cursor:
        way, values = read_cursor(search.cursor, search.sort, order)
        after, before = (values, None) if way == "n" else (None, values)
    offset = (search.page - 1) * limit if search.page > 1 and not search.cursor else 0
    query = Query(where=where, order=order, limit=limit, after=after, before=before, offset=offset)
    with_actions = "actions" in search.include
    needed = [*shown, *(field for field, _ in order)]
    if with_actions:
        needed += [field for field in resource.fields if field.sql]
    fields = tuple({field.name: field for field in needed}.values())
    return Wanted(
        shown=shown, fields=fields, query=query, count=search.count, with_actions=with_actions, sort=search.sort
    )


def names(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def whole(call: Call, name: str, most: int = MOST) -> int:
    text = call.one(name)
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= most):
        raise Problem("malformed-request", f"{name} is a number from 1 to {most}, not {text!r}")
    return int(text)


def sees(principal: Principal, field: Field) -> bool:
    """Whether the caller may see a field."""
    if not field.sql or (field.superadmin and not principal.superadmin):
        return False
    return not field.see or principal.holds(*field.see)


def shown_fields(resource: Resource, principal: Principal, wanted: Sequence[str]) -> tuple[Field, ...]:
    """Those that were asked for, or all that the caller sees."""
    if not wanted:
        return tuple(field for field in resource.fields if sees(principal, field) and field.name != "id")
    found = []
    # Each once: so often as somebody writes a name, it would be looked up in each row.
    for name in dict.fromkeys(wanted):
        field = resource.get(name)
        if name == "id":
            continue
        if field is None or not field.sql or (field.superadmin and not principal.superadmin):
            raise Problem("unknown-field", f"There is no field {name!r}")
        if not sees(principal, field):
            raise Problem("forbidden-field", f"You may not see {name}", acl=", ".join(field.see))
        found.append(field)
    return tuple(found)


def usable(resource: Resource, principal: Principal, name: str, kind: str, able: Callable[[Field], bool]) -> Field:
    """A field to filter or sort by."""
    field = resource.get(name)
    if field is None or not able(field) or not field.sql or (field.superadmin and not principal.superadmin):
        raise Problem("unknown-filter" if kind == "filter" else "invalid-sort", f"There is no {kind} {name!r}")
    if not sees(principal, field):
        raise Problem(f"forbidden-{kind}", f"You may not use {name} as a {kind}", acl=", ".join(field.see))
    return field


def filter_field(resource: Resource, principal: Principal, name: str) -> Field:
    """A field to filter by, or a property."""
    found = property_field(resource, principal, name)
    return usable(resource, principal, name, "filter", lambda each: each.filters) if found is None else found


def order_of(resource: Resource, principal: Principal, text: str) -> tuple[tuple[Field, bool], ...]:
    found = []
    for name in names(text):
        down, plain = name.startswith("-"), name.lstrip("-+")
        found.append((usable(resource, principal, plain, "sort", lambda field: field.sorts), down))
    if len(found) > 4 or len({field.name for field, _ in found}) < len(found):
        raise Problem("invalid-sort", "Sort by four different fields at most")
    return tuple(found)


def read_cursor(text: str, sort: str, order: Sequence[tuple[Field, bool]]) -> tuple[str, tuple[Any, ...]]:
    """@raise Problem: it is none of ours, or of a list in another order."""
    wrong = Problem("malformed-request", "The cursor is not one of this list: begin again without it")
    try:
        way, sorted_by, *values = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError, msgspec.DecodeError):
        raise wrong from None
    if way not in ("n", "p") or sorted_by != sort or len(values) != len(order) + 1:
        raise wrong
    if not is_whole(values[-1]):
        raise wrong
    try:
        return way, (*(checked(field, value) for (field, _), value in zip(order, values, strict=False)), values[-1])
    except Problem:
        raise wrong from None


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and SMALLEST <= value <= LARGEST


def condition(resource: Resource, principal: Principal, key: str, values: Sequence[str]) -> Filter:
    """C{field=value}, C{field=a,b}, C{field[op]=value}."""
    name, operator = key, ""
    if key.endswith("]") and "[" in key:
        name, _, operator = key[:-1].rpartition("[")
    field = filter_field(resource, principal, name)
    parts = (
        [part for value in values for part in value.split(",")] if operator in ("", "in", "nin", "between") else values
    )
    if not operator:
        operator = "eq" if len(parts) == 1 else "in"
    return comparison(field, operator, list(parts) if operator in ("in", "nin", "between") else only(parts, key))


def only(parts: Sequence[str], key: str) -> str:
    if len(parts) != 1:
        raise Problem("invalid-filter", f"{key} takes one value")
    return parts[0]


def tree(resource: Resource, principal: Principal, node: Any, depth: int, left: list[int]) -> Filter:
    """Conditions of a search's body."""
    left[0] -= 1
    if depth == 0 or left[0] < 0:
        raise Problem("invalid-filter", f"At most {WIDEST} conditions, {DEEPEST} levels deep")
    if not isinstance(node, dict):
        raise Problem("invalid-filter", "A condition is an object")
    match node:
        case {"and": list(parts)} if len(node) == 1:
            return All(tuple(tree(resource, principal, part, depth - 1, left) for part in parts))
        case {"or": list(parts)} if len(node) == 1:
            return AnyOf(tuple(tree(resource, principal, part, depth - 1, left) for part in parts))
        case {"not": part} if len(node) == 1:
            return Not(tree(resource, principal, part, depth - 1, left))
        case {"field": str(name), "op": str(operator), "value": value} if len(node) == 3:
            field = filter_field(resource, principal, name)
            return comparison(field, operator, value)
    raise Problem("invalid-filter", "A condition is and, or, not, or field with op and value")


def comparison(field: Field, operator: str, value: Any) -> Comparison:
    """@raise Problem: there is no such operator, or it does not go with the field or the value."""
    try:
        chosen = Operator(operator)
    except ValueError:
        raise Problem("invalid-filter", f"There is no operator {operator!r}") from None
    if chosen is Operator.NULL:
        return Comparison(field, chosen, checked_flag(field, value))
    if field.parameters and chosen in ORDERING:
        raise Problem("invalid-filter", f"{field.name} is compared as text, of which {operator} would not be true")
    if chosen in (Operator.IN, Operator.NIN, Operator.BETWEEN):
        if not isinstance(value, list) or len(value) > WIDEST * 10:
            raise Problem("invalid-filter", f"{field.name}[{operator}] takes a list of values")
        if chosen is Operator.BETWEEN and len(value) != 2:
            raise Problem("invalid-filter", f"{field.name}[between] takes two values")
        return Comparison(field, chosen, tuple(checked(field, each) for each in value))
    if chosen in (Operator.LIKE, Operator.ILIKE, Operator.PREFIX) and field.kind is not Kind.TEXT:
        raise Problem("invalid-filter", f"{field.name} is no text: {operator} does not go with it")
    if field.kind in (Kind.OBJECT, Kind.LIST):
        raise Problem("invalid-filter", f"{field.name} cannot be compared")
    if chosen in (Operator.LIKE, Operator.ILIKE) and isinstance(value, str) and ends_escaping(value):
        raise Problem("invalid-filter", f"{field.name}[{operator}] ends with a backslash that escapes nothing")
    return Comparison(field, chosen, checked(field, value))


def ends_escaping(pattern: str) -> bool:
    """PostgreSQL takes no pattern that ends with an odd number of backslashes."""
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1


def checked_flag(field: Field, value: Any) -> bool:
    if value in (True, "true", "1"):
        return True
    if value in (False, "false", "0"):
        return False
    raise Problem("invalid-filter", f"{field.name}[null] is true or false")


def checked(field: Field, value: Any) -> Any:
    """A value of the field's kind, of text or of JSON."""
    wrong = Problem("invalid-filter", f"{value!r} is no value for {field.name}, which is {field.kind.value}")
    if value is None:
        if field.nullable:
            return None
        raise wrong
    if isinstance(value, list | dict):
        raise wrong
    match field.kind:
        case Kind.BOOLEAN:
            if value in (True, "true", "1"):
                return True
            if value in (False, "false", "0"):
                return False
            raise wrong
        case Kind.INTEGER:
            return whole_number(value, wrong)
        case Kind.NUMBER:
            return real_number(value, wrong)
        case Kind.TIME:
            return moment(value, wrong)
        case Kind.ADDRESS:
            try:
                return str(IPv4Address(str(value)))
            except ValueError:
                raise wrong from None
        case _:
            text = str(value)
            if len(text) > LONGEST_VALUE:
                raise Problem("invalid-filter", f"{field.name} is compared with {LONGEST_VALUE} characters at most")
            if "\0" in text:
                raise wrong
            return text


def whole_number(value: Any, wrong: Problem) -> int:
    try:
        number = int(value) if isinstance(value, str) and value.lstrip("-").isdigit() and value.isascii() else value
    except ValueError:
        raise wrong from None
    if isinstance(number, bool) or not isinstance(number, int) or not -(1 << 63) <= number < 1 << 63:
        raise wrong
    return number


def real_number(value: Any, wrong: Problem) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise wrong from None


def moment(value: Any, wrong: Problem) -> datetime:
    try:
        made = datetime.fromisoformat(str(value))
    except ValueError:
        raise wrong from None
    if made.tzinfo is None:
        raise wrong
    try:
        # PostgreSQL knows no offsets of 16 hours or more.
        return made.astimezone(UTC)
    except OverflowError:
        raise wrong from None
