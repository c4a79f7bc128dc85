"""C{qvd events}."""

from __future__ import annotations

import json

from tests.admin.desks import Desks
from tests.admin.server import Server
from tests.cli.terminal import Terminal
from tests.fakes.asynchronous import asynchronous, until


@asynchronous
async def test_what_changes(anna: Terminal, desks: Desks, server: Server) -> None:
    feed = server.composition.feed
    watching = anna.start("events", "vms", "--filter", "name~alice%", "--count", "1", "-o", "ndjson")
    await until(lambda: feed.streams, "it listens")
    assert (await anna.start("vm", "set", "alice-1", "--description", "changed")).status == 0
    found = await watching
    assert found.status == 0, found.err
    event = json.loads(found.out)
    assert event["id"]
    assert "alice-1" in found.out


@asynchronous
async def test_for_people(anna: Terminal, desks: Desks, server: Server) -> None:
    feed = server.composition.feed
    watching = anna.start("events", "vm:alice-1", "--count", "1")
    await until(lambda: feed.streams, "it listens")
    assert (await anna.start("vm", "set", "alice-1", "--description", "changed")).status == 0
    found = await watching
    assert found.status == 0, found.err
    assert "alice-1" in found.out and len(found.out.splitlines()) == 1


@asynchronous
async def test_mistakes(anna: Terminal) -> None:
    for words in (
        ("cats",),
        ("cat:1",),
        ("vms", "users", "--filter", "name=a"),
        ("stats", "--filter", "name=a"),
        ("--follow", "--count", "1"),
    ):
        assert (await anna.start("events", *words)).status == 2, words
    assert (await anna.start("events", "vm:nobody", "--count", "1")).status == 5
