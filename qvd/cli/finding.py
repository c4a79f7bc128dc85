# -*- test-case-name: tests.cli.test_derived -*-
"""Objects by what people call them: their numbers, or their names."""

from __future__ import annotations

from qvd.cli.description import Collection
from qvd.cli.exits import CommandError, Exit, usage
from qvd.cli.session import Session

MOST = 20
"""Objects of the same name that are told."""


def number_of(session: Session, collection: Collection | None, text: str) -> int:
    """The id of an object. A number is an id, whatever names there are.

    @param collection: L{None}: what it is about has no names.
    @raise CommandError: there is none of that name, or more than one.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    if collection is None or not collection.known_by:
        raise usage(f"{text!r} is no number, and {collection.name if collection else 'this'} has no name to find it by")
    query = {f"{collection.known_by}[eq]": text, "fields": collection.known_by, "limit": MOST, "count": False}
    items = session.call("GET", f"/{collection.collection}", query=query).body["items"]
    if not items:
        raise CommandError(f"There is no {collection.name} {text!r}", Exit.NOT_FOUND)
    if len(items) > 1:
        numbers = ", ".join(str(each["id"]) for each in items)
        more = " and more" if len(items) == MOST else ""
        raise usage(f"Several are called {text!r}: say which number you mean ({numbers}{more})")
    return int(items[0]["id"])
