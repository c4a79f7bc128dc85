"""L{qvd.client.relay}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from qvd.client.relay import FLUSH_SECONDS, Ending, Relay, Side

make_failure: Any = Failure
make_transport: Any = StringTransport
DONE = make_failure(ConnectionDone())
BROKEN = make_failure(ConnectionLost())


class FakeLeg:
    """A side that a test plays."""

    receive: Callable[[bytes], None]
    lost: Callable[[Failure], None]

    def __init__(self, gone: bool = False) -> None:
        self.transport: Any = make_transport()
        self._gone = gone

    def attach(self, receive: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        self.receive, self.lost = receive, lost
        if self._gone:
            lost(DONE)


class Joint:
    """A relay under test."""

    def __init__(self, server_gone: bool = False) -> None:
        self.clock = Clock()
        self.server, self.display = FakeLeg(server_gone), FakeLeg()
        self.run: Deferred[Ending] = Deferred.fromCoroutine(Relay(self.clock, self.server, self.display).run())
        self.seen: list[Any] = []
        self.run.addBoth(self.seen.append)


def test_bytes_go_both_ways() -> None:
    joint = Joint()
    joint.server.receive(b"from server")
    joint.display.receive(b"from display")
    assert joint.display.transport.value() == b"from server"
    assert joint.server.transport.value() == b"from display"


def test_each_side_is_held_back_by_the_other() -> None:
    joint = Joint()
    for slow, fast in ((joint.server, joint.display), (joint.display, joint.server)):
        assert slow.transport.producer is fast.transport
        assert slow.transport.streaming
        slow.transport.producer.pauseProducing()
        assert fast.transport.producerState == "paused"


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("reason", [DONE, BROKEN])
def test_end_of_one_side_is_the_end_of_the_other(side: Side, reason: Failure) -> None:
    joint = Joint()
    first, second = (joint.server, joint.display) if side is Side.SERVER else (joint.display, joint.server)
    second.transport.pauseProducing()
    first.lost(reason)
    assert second.transport.disconnecting
    assert second.transport.producer is None
    assert second.transport.producerState == "producing"
    assert joint.seen == []
    second.lost(DONE)
    assert joint.seen == [Ending(side, orderly=reason is DONE)]
    assert joint.clock.getDelayedCalls() == []


def test_what_is_not_flushed_in_time_is_cut() -> None:
    joint = Joint()
    joint.display.lost(DONE)
    joint.clock.advance(FLUSH_SECONDS)
    assert joint.server.transport.disconnected
    joint.server.lost(BROKEN)
    assert joint.seen == [Ending(Side.DISPLAY, orderly=True)]


def test_server_that_was_gone_already() -> None:
    joint = Joint(server_gone=True)
    assert joint.display.transport.disconnecting
    joint.display.lost(DONE)
    assert joint.seen == [Ending(Side.SERVER, orderly=True)]


def test_cancelled() -> None:
    joint = Joint()
    joint.run.cancel()
    assert isinstance(joint.seen[0].value, CancelledError)
    for leg in (joint.server, joint.display):
        assert leg.transport.disconnected
        leg.lost(BROKEN)
    assert joint.clock.getDelayedCalls() == []
