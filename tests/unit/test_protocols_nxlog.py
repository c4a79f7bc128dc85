"""Lines that nxagent 3.5.99.26 writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.protocols.nxlog import LineReader, NXEvent, NXKind, parse_line
from tests import strategies

AT = "at 'Tue Nov 24 04:09:05 2026'."


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("Info: Agent running with pid '4'.", NXEvent(NXKind.AGENT_PID, 4)),
        (f"Session: Starting session {AT}", NXEvent(NXKind.STARTING)),
        (f"Session: Session started {AT}", NXEvent(NXKind.STARTED)),
        (f"Session: Suspending session {AT}", NXEvent(NXKind.SUSPENDING)),
        (f"Session: Session suspended {AT}", NXEvent(NXKind.SUSPENDED)),
        (f"Session: Resuming session {AT}", NXEvent(NXKind.RESUMING)),
        (f"Session: Session resumed {AT}", NXEvent(NXKind.RESUMED)),
        (f"Session: Terminating session {AT}", NXEvent(NXKind.TERMINATING)),
        (f"Session: Session terminated {AT}", NXEvent(NXKind.TERMINATED)),
        (f"Session: Aborting session {AT}", NXEvent(NXKind.ABORTING)),
        (f"Session: Session aborted {AT}", NXEvent(NXKind.ABORTED)),
        (f"Session: Display failure detected {AT}", NXEvent(NXKind.DISPLAY_FAILURE)),
        ("Info: Waiting for connection from any host on socket 'tcp:localhost:4077'.", NXEvent(NXKind.WAITING)),
        ("Info: Waiting for connection from '127.0.0.1' on socket 'tcp:localhost:4077'.", NXEvent(NXKind.WAITING)),
        ("Info: Accepted connection from '127.0.0.1'.", NXEvent(NXKind.ACCEPTED)),
        ("Info: Listening to slave connections on port 'tcp:localhost:11077'.", NXEvent(NXKind.SLAVE, 11077)),
        ("Info: Listening to slave connections on port '11077'.", NXEvent(NXKind.SLAVE, 11077)),
        ("Info: Listening to multimedia connections on port 'tcp:*:7077'.", NXEvent(NXKind.MULTIMEDIA, 7077)),
        (f"xinit: connection to X server lostSession: Terminating session {AT}", NXEvent(NXKind.TERMINATING)),
    ],
)
def test_events(line: str, event: NXEvent) -> None:
    assert parse_line(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Error: Aborting session with 'Unable to open display 'nx/nx,options=/tmp/nx.conf:77''.",
        "Info: Proxy running in client mode with pid '4'.",
        "Info: Aborting the procedure due to signal '15'.",
        "Warning: No data received from remote proxy on FD#8 within 32 seconds.",
        "Info: Listening to slave connections on port '123456'.",
        "Info: Agent running with pid 'x'.",
    ],
)
def test_no_events(line: str) -> None:
    assert parse_line(line) is None


@given(st.text())
def test_any_line_is_an_event_or_none(line: str) -> None:
    parse_line(line)


@given(st.data(), st.lists(st.sampled_from([b"abc", b"\n", b"\r\n", b"\xc3\xb1", b"\xff"]), max_size=30))
def test_chunking_changes_nothing(data: st.DataObject, pieces: list[bytes]) -> None:
    def lines(chunks: list[bytes]) -> list[str]:
        reader = LineReader(limit=7)
        return [line for chunk in chunks for line in reader.feed(chunk)] + [reader.finish()]

    stream = b"".join(pieces)
    assert lines(data.draw(strategies.chunked(stream))) == lines([stream])


def test_lines_and_what_is_left() -> None:
    reader = LineReader()
    assert reader.feed(b"one\r\ntwo\n\nthr") == ["one", "two", ""]
    assert reader.feed(b"ee") == []
    assert reader.finish() == "three"
    assert reader.finish() == ""


def test_long_lines_are_cut() -> None:
    reader = LineReader(limit=4)
    assert reader.feed(b"x" * 1000) == []
    assert reader.feed(b"y" * 1000 + b"\nok\n") == ["xxxx", "ok"]
