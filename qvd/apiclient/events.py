# -*- test-case-name: tests.apiclient.test_events -*-
"""Server-sent events (HTML Standard, section 9.2), read; and a connection that comes back where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field, frozen

from qvd.apiclient.problems import ApiProblem, BadAnswer, Unreachable, Untrusted, problem_of
from qvd.apiclient.wire import Wire, first_of, lowered

SILENCE = 60.0
"""Seconds after which a connection without a sign of life is given up; the server gives one much more often."""
LONGEST_EVENT = 8 * 1024**2
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0


@frozen
class Event:
    """@ivar kind: C{changed}, C{deleted}, C{resync} and others.
    @ivar id: after which to go on.
    """

    kind: str
    data: Any
    id: str = ""


@define
class Reader:
    """Bytes to events.

    @ivar last_id: as the stream last said.
    """

    last_id: str = ""
    _rest: bytes = b""
    _kind: str = ""
    _data: list[str] = field(factory=list)
    _size: int = 0

    def feed(self, data: bytes) -> Iterable[Event]:
        """@raise BadAnswer: an event has no end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) + self._size > LONGEST_EVENT:
            raise BadAnswer("An event is too large")
        found = []
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event is not None:
                found.append(event)
        return found

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
                self._size += len(value)
            case "id" if "\0" not in value:
                self.last_id = value
        return None

    def _dispatch(self) -> Event | None:
        kind, lines = self._kind or "message", self._data
        self._kind, self._data, self._size = "", [], 0
        if not lines:
            return None
        text = "\n".join(lines)
        try:
            return Event(kind, json.loads(text), self.last_id)
        except ValueError:
            return Event(kind, text, self.last_id)


def watch(
    wire: Wire, target: str, headers: Mapping[str, str], last_id: str | None, wait: Callable[[float], object]
) -> Iterator[Event]:
    """Events, without end.

    @raise ApiProblem: the watcher may not, or not any more; or the server will not even later.
    """
    seconds, known = FIRST_WAIT, last_id or ""
    while True:
        reader = Reader(known)
        asked = {**headers, "cache-control": "no-store"} | ({"last-event-id": known} if known else {})
        try:
            with wire.open("GET", target, asked, silence=SILENCE) as response:
                if response.status_code != 200:
                    raise problem_of(response.status_code, lowered(response), first_of(response))
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise BadAnswer("The server answers with something else than events")
                for chunk in response.iter_bytes():
                    for event in reader.feed(chunk):
                        seconds = FIRST_WAIT
                        yield event
                    known = reader.last_id
        except Untrusted:
            raise
        except ApiProblem as problem:
            if problem.status not in (429, 502, 503, 504):
                raise
            seconds = max(seconds, min(problem.retry_after or 0.0, LONGEST_WAIT))
        except Unreachable:
            known = reader.last_id
        wait(seconds)
        seconds = min(seconds * 2, LONGEST_WAIT)
