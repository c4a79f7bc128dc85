# -*- test-case-name: tests.cli.test_derived -*-
"""C{qvd explain vm 42} and C{qvd history vm 42}: why an object is as it is, and how it came to be so."""

from __future__ import annotations

from typing import Any

import click

from qvd.cli import listing
from qvd.cli.description import Collection, Operation
from qvd.cli.exits import usage
from qvd.cli.finding import number_of
from qvd.cli.session import Session, output_options
from qvd.cli.text import cell, plain


def about(session: Session, kind: str, *verbs: str) -> tuple[Collection, Operation]:
    """The first of these operations that there is for objects of a kind.

    @raise CommandError: there is none.
    """
    description = session.description
    collection = description.named(kind) or description.collections.get(kind)
    if collection is None:
        names = ", ".join(each.name for each in description.collections.values())
        raise usage(f"There are no objects {kind!r}: {names}")
    for verb in verbs:
        found = description.get(f"{collection.name}.{verb}")
        if found is not None:
            return collection, found
    able = [each.action.partition(".")[0] for each in description.operations if each.action.endswith(f".{verbs[0]}")]
    raise usage(f"{collection.name} has no {verbs[0]}; these have: {', '.join(able)}")


@click.command()
@click.argument("kind")
@click.argument("which")
@output_options
@click.pass_obj
def explain(session: Session, kind: str, which: str) -> None:
    """Say why an object is as it is: qvd explain vm 42.

    WHICH is a number or a name.
    """
    collection, operation = about(session, kind, "explain")
    path = operation.path.replace("{id}", str(number_of(session, collection, which)))
    told: Any = session.call("GET", path).body
    screen = session.screen
    if screen.format != "table" or not isinstance(told.get("lines"), list):
        screen.document(told)
        return
    for line in told["lines"]:
        screen.write(plain(str(line)))
    rest = {name: value for name, value in told.items() if name != "lines" and value not in (None, [])}
    if nodes := rest.get("nodes"):
        screen.write("")
        screen.rows(nodes)


@click.command()
@click.argument("kind")
@click.argument("which")
@click.option("--limit", type=click.IntRange(1), default=50, help="So many at most; 50.")
@output_options
@click.pass_obj
def history(session: Session, kind: str, which: str, limit: int) -> None:
    """Say what happened to an object, the newest first: qvd history vm 42.

    WHICH is a number or a name. Of objects that keep no history of their own, it is what administrators did to them.
    """
    collection, operation = about(session, kind, "events", "log")
    path = operation.path.replace("{id}", str(number_of(session, collection, which)))
    rows = []
    for row in listing.pages(session, path, {"count": None, "limit": min(limit, listing.PAGE)}):
        rows.append(row)
        if len(rows) == limit:
            break
    if session.screen.format != "table" or not operation.action.endswith(".events"):
        columns = ["at", "action", "administrator_name", "outcome", "request_id"]
        session.screen.rows(rows, columns if session.screen.format == "table" else [])
        return
    session.screen.rows([{**row, "change": change_of(row)} for row in rows], ["at", "kind", "change", "cause"])


def change_of(row: Any) -> str:
    """What is otherwise than before."""
    before, after = row.get("before") or {}, row.get("after") or {}
    parts = []
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            parts.append(f"{name}: {cell(before.get(name)) or '-'} -> {cell(after.get(name)) or '-'}")
    return "; ".join(parts)
