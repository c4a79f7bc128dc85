# -*- test-case-name: tests.cli.test_derived -*-
"""Lists: all pages of what matches, with the columns that somebody chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from qvd.apiclient import ApiProblem, BadAnswer
from qvd.cli.filters import query_filter, search_filter
from qvd.cli.output import Row
from qvd.cli.session import Session

if TYPE_CHECKING:
    from qvd.cli.derived import Derived

PROPERTY = "property:"
"""Before the key of a custom property, in the columns that somebody chose."""
PAGE = 500
"""Objects of a page, at most."""


def perform(session: Session, command: Derived, path: str, query: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Write a list."""
    operation = command.operation
    fields, limit = names_of(given.get("fields")), given.get("limit")
    columns = fields or view_of(session, operation.path)
    if operation.takes_query("fields") and columns:
        query["fields"] = ",".join(columns)
    if given.get("sort"):
        query["sort"] = given["sort"]
    if given.get("actions"):
        query["include"] = "actions"
        columns = columns and [*columns, "_actions"]
    if operation.takes_query("limit"):
        query["limit"] = min(limit or PAGE, PAGE)
    rows = rows_of(session, command, path, query, given.get("condition"))
    session.screen.rows(islice(rows, limit), columns)


def rows_of(
    session: Session, command: Derived, path: str, query: dict[str, Any], condition: str | None
) -> Iterator[Row]:
    operation, collection = command.operation, command.collection
    searches = collection is not None and collection.searches and operation.path == f"/{collection.collection}"
    own = [name for name in query if name not in ("fields", "sort", "include", "limit")]
    if condition and searches and not own and collection is not None:
        return search(session, collection.collection, search_filter(condition, collection), query)
    if condition:
        query |= query_filter(condition, operation.conditions, collection.known_by if collection else "")
    if not operation.takes_query("count"):
        # The client would not have the pages counted, which not all lists know of.
        query["count"] = None
    return pages(session, path, query)


def pages(session: Session, path: str, query: Mapping[str, Any]) -> Iterator[Row]:
    """All pages; a few lists say in their own way where the next one begins."""
    cursor = query.get("cursor")
    while True:
        asked = {"count": "false", **query, "cursor": cursor}
        body = session.call("GET", path, query=asked).body
        try:
            yield from body["items"]
            cursor = body["page"]["next"] if "page" in body else body.get("next", body.get("cursor"))
        except (KeyError, TypeError):
            raise BadAnswer("The answer is not a page of a list") from None
        if cursor is None:
            return


def search(session: Session, word: str, condition: Mapping[str, Any], query: Mapping[str, Any]) -> Iterator[Row]:
    """The same with the body of a search."""
    body: dict[str, Any] = {"filter": condition, "count": False, "limit": query.get("limit", PAGE)}
    body |= {name: names_of(query[name]) for name in ("fields", "include") if query.get(name)}
    body |= {"sort": query["sort"]} if query.get("sort") else {}
    while True:
        found = session.call("POST", f"/{word}/search", body=body).body
        yield from found["items"]
        if found["page"]["next"] is None:
            return
        body["cursor"] = found["page"]["next"]


def view_of(session: Session, path: str) -> list[str]:
    """Columns that the administrator chose for the list, or the tenant; empty: all. Programs get all fields."""
    if session.screen.format != "table" or session.screen.quiet:
        return []
    collection = session.description.collections.get(path.rpartition("/")[2])
    if collection is None or session.description.get("view.read-own") is None:
        return []
    try:
        chosen = session.call("GET", f"/me/views/{collection.name}").body["columns"]
    except ApiProblem:
        return []
    return ["id", *(each for each in chosen if each != "id" and not each.startswith(PROPERTY))]


def names_of(text: str | None) -> list[str]:
    return [each.strip() for each in (text or "").split(",") if each.strip()]
