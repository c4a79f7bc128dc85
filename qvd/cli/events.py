# -*- test-case-name: tests.cli.test_events -*-
"""C{qvd events}: what changes, as it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import click

from qvd.apiclient import Event
from qvd.cli.description import Description
from qvd.cli.exits import usage
from qvd.cli.filters import query_filter
from qvd.cli.finding import number_of
from qvd.cli.session import Session, output_options
from qvd.cli.text import cell, plain

BELLS = ("config", "stats", "me")
"""Topics that are no objects."""
GREETING = "hello"


@click.command()
@click.argument("topics", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted, as it does without --count.")
@click.option("--filter", "condition", metavar="FILTER", help="Of the objects of a collection: 'state=running'.")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@click.option("--since", metavar="ID", help="Go on after this event.")
@output_options
@click.pass_obj
def events(
    session: Session, topics: tuple[str, ...], follow: bool, condition: str | None, count: int | None, since: str | None
) -> None:
    """Watch what changes: qvd events vms --filter 'state=running'.

    A TOPIC is a collection (vms), one object (vm:42, vm:NAME), config, stats or me. Without any, all collections are
    watched that you may see. One line for each event; with -o ndjson, all of it.
    """
    if follow and count is not None:
        raise usage("--follow goes on, and --count ends: one of them")
    description = session.description
    asked = [topic_of(session, description, each) for each in topics] or seen(session, description)
    filters = None if condition is None else filters_of(description, asked, condition)
    found = told(session.api.events(asked, filters, since))
    if session.screen.format == "table":
        for each in islice(found, count):
            session.screen.write(line(each))
            session.screen.out.flush()
        return
    if session.screen.format in ("json", "yaml") and count is None:
        # Neither has an end that could be written.
        session.screen.format = "ndjson"
    session.screen.rows((document(each) for each in islice(found, count)), ["id", "event", "data"])


def told(events: Iterator[Event]) -> Iterator[Event]:
    """Without what only says that the connection is there."""
    return (each for each in events if each.kind != GREETING)


def topic_of(session: Session, description: Description, text: str) -> str:
    """As the API calls it.

    @raise CommandError: there is no such thing.
    """
    word, colon, which = text.partition(":")
    if not colon:
        collection = description.collections.get(text) or description.named(text)
        if collection is None and text not in BELLS:
            raise usage(f"There is no topic {text!r}: {', '.join([*description.collections, *BELLS])}")
        return text if collection is None else collection.collection
    collection = description.named(word)
    if collection is None:
        raise usage(
            f"There are no objects {word!r}: {', '.join(each.name for each in description.collections.values())}"
        )
    return f"{collection.name}:{number_of(session, collection, which)}"


def seen(session: Session, description: Description) -> list[str]:
    """Collections that the caller may see, as the views have them."""
    sections = {each["section"] for each in session.call("GET", "/me/views").body["items"]}
    return [each.collection for each in description.collections.values() if each.name in sections]


def filters_of(description: Description, topics: list[str], condition: str) -> Mapping[str, str]:
    if len(topics) != 1 or topics[0] not in description.collections:
        raise usage("--filter goes with one collection: qvd events vms --filter 'state=running'")
    collection = description.collections[topics[0]]
    found = query_filter(condition, collection.fields, collection.known_by)
    if any(len(values) > 1 for values in found.values()):
        raise usage("--filter has two conditions of the same kind on a field")
    return {name: values[0] for name, values in found.items()}


def document(event: Event) -> dict[str, Any]:
    return {"id": event.id, "event": event.kind, "data": event.data}


def line(event: Event) -> str:
    """For people."""
    data = event.data if isinstance(event.data, dict) else {"data": event.data}
    parts = []
    for name, value in data.items():
        if isinstance(value, dict):
            inner = (f"{key}={cell(each)}" for key, each in value.items() if each not in (None, "", [], {}))
            parts.append(" ".join(inner))
        else:
            parts.append(f"{name}={cell(value)}")
    return f"{plain(event.kind)}  {plain('  '.join(parts))}"
