# -*- test-case-name: tests.admin.test_events -*-
"""
One reader of changes for all connections of a process. It reads while somebody listens, a turn after the other; each
turn's changes are read once for all who see the same of them, and written to each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from qvd.admin.call import Call
from qvd.admin.events.changes import Turn
from qvd.admin.events.stream import Stream, frame, id_line
from qvd.admin.events.topics import Frames, Topic
from qvd.admin.problems import Problem
from qvd.interfaces.administration import IRecords
from qvd.interfaces.events import Change, IOutbox, Position
from qvd.model.declared import Principal
from qvd.model.errors import QVDError

TURN, WATCH = 0.2, 1.0
"""Seconds between two turns, and between two looks at who listens."""
CHECK, STALE = 3.0, 5.0
"""Seconds after which a caller is identified again; and without which nothing more is told."""
HEARTBEAT = 15
KEPT = 15 * 60
"""Seconds that changes are kept."""
GROUPS = 8
"""Positions that are read from in one turn, the newest first: who comes back from before does not hold up the rest."""
BATCH, BATCHES = 5000, 20
"""Changes that are read at once, and how many times in a turn."""
SLICE = 256 * 1024
"""Bytes that are written before others have their turn at the reactor."""


@define
class Held:
    """A topic, and how many streams have it."""

    topic: Topic
    streams: int = 0


@define(slots=False, eq=False)
class Feed(Service):
    """Starts and stops with the service; without listeners it does nothing.

    @ivar identify: L{qvd.admin.services.Gate.identify}, or one that does not count as a use of the session: a page
        that is open is nobody who is there.
    @ivar most: connections. C{most_of_one}: of one administrator.
    """

    reactor: Any
    outbox: IOutbox
    records: IRecords
    identify: Callable[[Call], Awaitable[Principal | None]]
    most: int = 1000
    most_of_one: int = 20
    streams: set[Stream] = field(factory=set)
    _topics: dict[Topic, Held] = field(factory=dict)
    _turns: LoopingCall | None = None
    _watches: LoopingCall | None = None
    _told: bool = False
    _upto: Position | None = None
    log = Logger()

    def stopService(self) -> Any:
        """Close all connections; their clients go on elsewhere from where they were."""
        for stream in list(self.streams):
            stream.end()
        return super().stopService()  # type: ignore[no-untyped-call]

    async def subscribe(self, call: Call, topics: Sequence[Topic]) -> Callable[[Any], Awaitable[bytes]]:
        """What serves a request that watches.

        @raise Problem: too many do.
        """
        self._admit(call.principal)
        now = await self.outbox.now()
        last = call.headers.get("last-event-id", "")
        since = resumed(last, now)
        # Whoever is new begins where the others are, if any: each position is read from apart.
        here = self._upto if self._turns is not None and self._upto is not None else now
        stream = Stream(self.reactor, call, topics, since or here)
        told = {"server_time": now.at, "heartbeat_s": HEARTBEAT, "topics": [each.text for each in topics]}
        first = b"retry: 2000\n" + id_line(stream.position) + frame("hello", told)
        if last and since is None:
            first += frame("resync", {"reason": "too old"})
        self._admit(call.principal)

        async def serve(request: Any) -> bytes:
            self._join(stream)
            try:
                return await stream.run(request, first)
            finally:
                self._leave(stream)

        return serve

    def _admit(self, principal: Principal) -> None:
        of_one = Counter(each.call.principal.administrator_id for each in self.streams)[principal.administrator_id]
        if of_one >= self.most_of_one or len(self.streams) >= self.most:
            raise Problem("too-many-requests", "Too many event streams are open", headers={"Retry-After": "10"})

    def _join(self, stream: Stream) -> None:
        # Equal topics are one, with what it remembers.
        for topic in stream.topics:
            self._topics.setdefault(topic, Held(topic)).streams += 1
        stream.topics = [self._topics[topic].topic for topic in stream.topics]
        self.streams.add(stream)
        if self._turns is None:
            self._turns = self._repeat(self.turn, TURN)
            self._watches = self._repeat(self.watch, WATCH)

    def _leave(self, stream: Stream) -> None:
        self.streams.discard(stream)
        for topic in stream.topics:
            held = self._topics[topic]
            held.streams -= 1
            if not held.streams:
                del self._topics[topic]
        if not self.streams and self._turns is not None and self._watches is not None:
            self._turns.stop()
            self._watches.stop()
            self._turns = self._watches = self._upto = None

    def _repeat(self, work: Callable[[], Awaitable[None]], every: float) -> LoopingCall:
        async def guarded() -> None:
            try:
                await work()
                self._told = False
            except QVDError as error:
                if not self._told:
                    self._told = True
                    self.log.warn("Events wait: {reason}", reason=error.text)
            except Exception:  # noqa: BLE001  the next turn tries again
                self.log.failure("Events wait")

        made = LoopingCall(lambda: Deferred.fromCoroutine(guarded()))
        made.clock = self.reactor
        made.start(every, now=False)
        return made

    async def turn(self) -> None:
        """Read what has changed, and tell it."""
        upto = self._upto = await self.outbox.now()
        groups: dict[int, list[Stream]] = {}
        for stream in self.streams:
            if stream.position.xid < upto.xid:
                groups.setdefault(stream.position.xid, []).append(stream)
        # Whoever comes back from before is a group apart, once.
        for since in sorted(groups, reverse=True)[:GROUPS]:
            streams = groups[since]
            turn = await self._read(since, upto.xid)
            if turn is not None:
                await self._tell(streams, turn, upto)
                continue
            for stream in streams:
                stream.lose(upto)

    async def _read(self, since: int, upto: int) -> Turn | None:
        """What changed from one position to another; L{None}: so much that it would keep all others waiting."""
        turn, last = Turn(), None
        for _ in range(BATCHES):
            changes: Sequence[Change] = await self.outbox.between(since, upto, last, BATCH)
            for change in changes:
                turn.add(change)
            if len(changes) < BATCH:
                return turn
            last = changes[-1]
        return None

    async def _tell(self, streams: Iterable[Stream], turn: Turn, upto: Position) -> None:
        known: dict[Topic, Frames] = {}
        if turn.found or turn.overflown:
            for topic in {topic for stream in streams for topic in stream.topics}:
                known[topic] = await topic.frames(turn, self.records)
        chunks: dict[tuple[Topic, ...], bytes] = {}
        written = 0
        for stream in streams:
            told = tuple(topic for topic in stream.topics if known.get(topic))
            if not told:
                stream.position = upto
            elif stream.checked < self.reactor.seconds() - STALE:
                stream.lose(upto)
            else:
                if told not in chunks:
                    chunks[told] = chunk_of([known[topic] for topic in told], upto)
                stream.send(chunks[told], upto)
                written += len(chunks[told])
                if written > SLICE:
                    written = 0
                    await deferLater(self.reactor, 0)

    async def watch(self) -> None:
        """Identify again who has not been for a while, and see that the connections stand."""
        now = self.reactor.seconds()
        due: dict[str, list[Stream]] = {}
        for stream in self.streams:
            if now - stream.checked >= CHECK:
                due.setdefault(stream.call.principal.session, []).append(stream)
        for streams in due.values():
            reason = await self._refusal(streams[0].call)
            for stream in streams:
                if reason:
                    stream.end(frame("revoked", {"reason": reason}))
                else:
                    stream.checked = self.reactor.seconds()
        for stream in list(self.streams):
            if stream.checked >= self.reactor.seconds() - STALE:
                stream.beat(HEARTBEAT)

    async def _refusal(self, call: Call) -> str:
        """Why its caller may listen no more; empty: they may."""
        try:
            found = await self.identify(call)
        except Problem as problem:
            return problem.kind
        if found is None:
            return "session-expired"
        if found.must_change_password:
            return "password-change-required"
        was = call.principal
        same = (found.administrator_id, found.tenant_id, found.superadmin, found.multitenant, found.acls) == (
            was.administrator_id,
            was.tenant_id,
            was.superadmin,
            was.multitenant,
            was.acls,
        )
        return "" if same else "permissions-changed"


def resumed(text: str, now: Position) -> Position | None:
    """Where a client was, if all since then is known."""
    parts = text.split("-")
    if len(parts) != 2 or not all(each.isascii() and each.isdigit() and len(each) < 19 for each in parts):
        return None
    since = Position(int(parts[0]), int(parts[1]))
    # A time to come, or a transaction to come, is of another database.
    if since.xid > now.xid or not now.at - KEPT < since.at <= now.at:
        return None
    return since


def chunk_of(parts: Sequence[Frames], position: Position) -> bytes:
    """Events of several topics in the order of their changes. The last one has the id: with it, all are told."""
    frames = [each for _, each in sorted((each for part in parts for each in part), key=lambda each: each[0])]
    return b"".join([*frames[:-1], id_line(position), frames[-1]])
