"""Events: read piece by piece, and gone on with after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.apiclient import Api, ApiProblem, BadAnswer, Event
from qvd.apiclient.events import LONGEST_EVENT, Reader
from tests.apiclient.test_api import busy, scripted
from tests.apiclient.world import Installation, installation
from tests.fakes.asynchronous import asynchronous, spawn, until

__all__ = ["installation"]
STREAM = (
    b": beat\r\nid: 1-1\r\n\r\nevent: hello\nid: 1-2\ndata: {}\n\ndata: one\ndata:two\n\n"
    b'id: 1-3\nretry: 5\nstrange\n\nevent: changed\ndata: {"id": 7}\n\ndata: unfinished\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_it_does_not_matter_where_it_is_cut(places: list[int]) -> None:
    reader = Reader()
    found: list[Event] = []
    for begin, end in zip([0, *sorted(places)], [*sorted(places), len(STREAM)], strict=True):
        found += reader.feed(STREAM[begin:end])
    assert found == [
        Event("hello", {}, "1-2"),
        Event("message", "one\ntwo", "1-2"),
        Event("changed", {"id": 7}, "1-3"),
    ]


def test_an_event_without_end() -> None:
    reader = Reader()
    with pytest.raises(BadAnswer):
        for _ in range(LONGEST_EVENT // 1000 + 2):
            list(reader.feed(b"data: " + b"x" * 1000 + b"\n"))
    with pytest.raises(BadAnswer):
        list(Reader().feed(b"x" * (LONGEST_EVENT + 1)))


def test_it_comes_back_where_it_was(tmp_path: Path) -> None:
    stream = {"Content-Type": "text/event-stream"}
    first = (200, stream, b"id: 5-1\nevent: changed\ndata: 1\n\nid: 5-2\n\n")
    with scripted(tmp_path, first, None, busy(Retry_After="9"), (200, stream, b"data: 2\n\n")) as server:
        events = server.client().events(["vms", "vm:4", "config"], {"state": "running"}, last_id="4-4")
        assert [next(events).data, next(events).data] == [1, 2]
    assert [headers.get("last-event-id") for _, _, headers, _ in server.asked] == ["4-4", "5-2", "5-2", "5-2"]
    assert server.asked[0][1] == "/api/v1/events?topics=vms%3Fstate%3Drunning&topics=vm%3A4&topics=config"
    assert server.waited[2] == 9


def test_who_may_not_is_told(tmp_path: Path) -> None:
    problem = json.dumps({"type": "/problems/session-expired", "status": 401}).encode()
    answer = (401, {"Content-Type": "application/problem+json"}, problem)
    with scripted(tmp_path, answer) as server, pytest.raises(ApiProblem) as told:
        next(server.client().events(["vms"]))
    assert told.value.kind == "session-expired" and server.waited == []


@asynchronous
async def test_what_changes_is_told(installation: Installation) -> None:
    seen: list[Event] = []

    def work(api: Api) -> None:
        for event in api.events(["tenants"], {"name": "acme"}):
            seen.append(event)
            if event.kind == "added":
                return

    watching = spawn(installation.run(work))
    await until(lambda: seen, "the stream is open")
    installation.ask("INSERT INTO tenants (name) VALUES ('other'), ('acme')")
    await watching
    assert seen[0].kind == "hello" and "acme" in str(seen[-1].data) and seen[-1].id
