"""The node's end of a guest's channel. The guest is hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport

from qvd.hkd.hypervisor.kvm.channel import LEISURE, LONGEST_PAUSE, OBEY_SECONDS, AgentChannel, Channels, pause
from qvd.model.ids import VMId
from qvd.protocols.guestchannel import Word, encode, encode_marker
from tests.fakes.asynchronous import spawn

ANSWER = encode_marker({"vm_id": 9})
NINE = VMId(9)


class Ends:
    """Both ends of a channel."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.here: list[AgentChannel | None] = []
        self.channel = AgentChannel(self.clock, ANSWER, self.here.append)
        self.transport = cast(Any, StringTransport)()
        cast(Any, self.channel).makeConnection(self.transport)

    def say(self, data: bytes) -> bytes:
        """@return: what is said to that."""
        self.transport.clear()
        self.channel.dataReceived(data)
        said: bytes = self.transport.value()
        return said


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_who_asks_is_told(ends: Ends) -> None:
    assert ends.transport.value() == b"\n"
    assert ends.here == [ends.channel]
    assert ends.say(b"login: \n" + encode(Word.ASK)) == ANSWER
    assert ends.say(b"nonsense\n") == b""


def test_a_flood_of_questions_has_one_answer(ends: Ends) -> None:
    assert ends.say(encode(Word.ASK) * 1000) == ANSWER
    assert ends.transport.producerState == "paused"
    ends.clock.advance(LEISURE)
    assert ends.transport.producerState == "producing"


def test_a_guest_that_does_not_read_is_not_answered(ends: Ends) -> None:
    ends.channel.pauseProducing()
    assert ends.say(encode(Word.ASK)) == b""
    ends.channel.resumeProducing()
    assert ends.say(encode(Word.ASK)) == ANSWER


def test_an_order_and_its_confirmation(ends: Ends) -> None:
    obeyed = ends.channel.order()
    assert ends.transport.value().endswith(encode(Word.POWEROFF))
    assert not obeyed.called
    ends.say(encode(Word.OBEY))
    assert obeyed.called


def test_nothing_is_left_of_it(ends: Ends) -> None:
    ends.say(b"x")
    ends.channel.connectionLost()
    assert ends.here[-1] is None
    assert not ends.clock.getDelayedCalls()


class TestChannels:
    @pytest.fixture(autouse=True)
    def _reactor(self) -> None:
        self.reactor = cast(Any, MemoryReactorClock)()
        self.channels = Channels(self.reactor)

    def connect(self) -> AgentChannel:
        self.channels.open(NINE, Path("/run/9"), ANSWER)
        self.channels.open(NINE, Path("/run/9"), ANSWER)
        ((path, factory, _, _),) = self.reactor.unixClients
        assert path == "/run/9"
        channel: AgentChannel = factory.buildProtocol(None)
        cast(Any, channel).makeConnection(cast(Any, StringTransport)())
        return channel

    def order(self) -> tuple[Deferred[bool], list[bool]]:
        answers: list[bool] = []
        ordered = spawn(self.channels.order(NINE))
        ordered.addCallback(answers.append)
        return ordered, answers

    def test_no_channel(self) -> None:
        assert self.order()[1] == [False]
        self.channels.open(NINE, Path("/run/9"), ANSWER)
        assert self.order()[1] == [False]

    def test_an_agent_that_obeys(self) -> None:
        channel = self.connect()
        _, answers = self.order()
        channel.dataReceived(encode(Word.OBEY))
        assert answers == [True]

    def test_a_deaf_one(self) -> None:
        self.connect()
        _, answers = self.order()
        self.reactor.advance(OBEY_SECONDS)
        assert answers == [False]


def test_it_is_tried_again_ever_more_seldom() -> None:
    pauses = [pause(attempt) for attempt in range(2000)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
